// Message steps over packets: a lane (link/slots.h) whose slots hold packets.
//
//     sender                                             receiver
//     claim:   wait until a slot is drained              arrival: take the packets, each as it comes
//     publish: packets into the slot   ------------->    release: drained = turn + 1  --->  (a credit)
//
// A piece is made, and worked on, in memory of the block, in one of a few areas that are used in turn.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "cuda/layout.h"
#include "cuda/packets.h"
#include "link/slots.h"

namespace ringtree {

/// Hands out the areas. No step of an algorithm has more than kAreas pieces at hand, and between two uses of
/// an area the lanes of the block have waited for one another.
class PacketAreas {
 public:
  __device__ PacketAreas(std::byte* memory, std::size_t piece_bytes)
      : memory_(memory), piece_bytes_(piece_bytes) {}

  __device__ std::byte* next() {
    next_ = (next_ + 1) % PacketShape::kAreas;
    return memory_ + next_ * piece_bytes_;
  }

 private:
  std::byte* memory_;
  std::size_t piece_bytes_;
  unsigned next_ = 0;
};

/// One end of a lane.
class PacketLane {
 public:
  /// `lane` is where it lies, at its receiver's.
  __device__ PacketLane(std::byte* lane, const PacketShape& shape, LaneCursor& cursor, PacketAreas& areas,
                        std::uint64_t digest, int peer)
      : lane_(lane), shape_(&shape), cursor_(&cursor), areas_(&areas), digest_(digest), peer_(peer) {}

 protected:
  __device__ std::uint64_t& drained() const { return reinterpret_cast<Counter*>(lane_)->value; }
  __device__ std::byte* slot(std::uint64_t turn) const {
    return lane_ + sizeof(Counter) +
           turn % PacketShape::kLaneSlots * PacketShape::room_for(shape_->piece_bytes);
  }
  __device__ PacketMessage message(const Claim& claim, std::size_t bytes) const {
    return {*shape_, digest_, claim.turn, claim.data, bytes};
  }

  std::byte* lane_;
  const PacketShape* shape_;
  LaneCursor* cursor_;
  PacketAreas* areas_;
  std::uint64_t digest_;
  int peer_;
};

class PacketSender : public PacketLane {
 public:
  using PacketLane::PacketLane;

  __device__ int peer() const { return peer_; }

  /// Waits for a free slot; the caller writes the piece to `.data`.
  template <class Team>
  __device__ Claim claim(Team& team, std::size_t /*bytes*/, bool /*roams*/ = false) const {
    const std::uint64_t turn = cursor_->turn;
    team.await(peer_, [this](Order order) {
      if (cursor_->turn - cursor_->drained < PacketShape::kLaneSlots) return true;
      cursor_->drained = AtomicRef(drained()).load(order);  // pairs with: release()
      return cursor_->turn - cursor_->drained < PacketShape::kLaneSlots;
    });
    return {nullptr, turn, areas_->next(), 0};
  }

  template <class Team>
  __device__ void publish(Team& team, const Claim& claim, std::size_t bytes) const {
    if (team.leads()) cursor_->turn = claim.turn + 1;
    team.sync();  // every lane has written its part, and sees the cursor move
    if (team.gave_up()) return;
    const PacketMessage piece = message(claim, bytes);
    for (std::uint32_t i = threadIdx.x; i < piece.packets(); i += blockDim.x) piece.put(slot(claim.turn), i);
  }
};

class PacketReceiver : public PacketLane {
 public:
  using PacketLane::PacketLane;

  /// Waits for the next piece, which must belong to this call and have `bytes` bytes.
  template <class Team, class Elsewhere = Nowhere>
  __device__ Claim arrival(Team& team, std::size_t bytes, const Elsewhere& elsewhere = {}) const {
    const Claim claim{nullptr, cursor_->turn, areas_->next(), 0};
    const PacketMessage piece = message(claim, bytes);
    for (std::uint32_t i = threadIdx.x; i < piece.packets(); i += blockDim.x)
      if (!piece.take(team, peer_, slot(claim.turn), i, elsewhere)) break;
    team.join();
    return claim;
  }

  /// Gives the slot back. No release: what the loads have brought lies in memory of the block since
  /// arrival().
  template <class Team>
  __device__ void release(Team& team, const Claim& claim) const {
    if (team.leads()) {
      cursor_->turn = claim.turn + 1;
      AtomicRef(drained()).store(claim.turn + 1, relaxed);  // pairs with: claim()
    }
    team.sync();  // every lane has read the piece, and sees the cursor move
  }
};

}  // namespace ringtree
