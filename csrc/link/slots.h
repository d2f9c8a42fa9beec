// Message steps between two ranks: a lane of slots with credits, in memory that both can reach.
//
//     sender                                             receiver
//     claim:   wait until a slot is drained              arrival: wait until the slot is filled, compare
//     write the piece                                    read the piece
//     publish: filled = turn + 1        ------------>    release: drained = turn + 1  --->  (a credit)
//
// Messages of one lane are numbered by `turn`, which both sides count alone; slot = turn mod slots. The
// counters only grow and have 64 bits: at one message a nanosecond they last five centuries.
//
// tests/model/lane.pml checks this in every interleaving.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/platform.h"

namespace ringtree {

/// The first line of a slot. A piece that fits `small` travels in the same cache line as its flag, so a
/// small message costs one transfer between cores instead of two.
struct alignas(kCacheLine) SlotHeader {
  std::uint64_t filled;  ///< turn + 1 of the message inside
  std::uint64_t digest;  ///< of the call the message belongs to
  std::uint64_t bytes;
  std::byte small[kCacheLine - 3 * sizeof(std::uint64_t)];

  /// Where the `size` bytes of a piece lie: here, or in the payload behind this header.
  RT_HD std::byte* data(std::size_t size) {
    return size <= sizeof(small) ? small : reinterpret_cast<std::byte*>(this + 1);
  }
};

struct alignas(kCacheLine) Counter {
  std::uint64_t value;
};

struct SlotShape {
  int slots;
  std::size_t slot_bytes;  ///< payload; a multiple of the cache line

  RT_HD constexpr std::size_t stride() const { return sizeof(SlotHeader) + slot_bytes; }
  RT_HD constexpr std::size_t bytes() const { return static_cast<std::size_t>(slots) * stride(); }

  RT_HD SlotHeader& at(std::byte* slots_begin, std::uint64_t turn) const {
    return *reinterpret_cast<SlotHeader*>(slots_begin + (turn % static_cast<unsigned>(slots)) * stride());
  }
};

/// How far one side of a lane has come. Private to its rank; on the device, written by the leader alone.
struct LaneCursor {
  std::uint64_t turn;
  std::uint64_t drained;  ///< the receiver's counter as last seen: spares the sender a cache miss a message
};

/// A slot in the hands of one side. All lanes of a team hold the same values.
struct Claim {
  SlotHeader* header;
  std::uint64_t turn;
  std::byte* data;
};

class Sender {
 public:
  RT_HD Sender(std::byte* lane, SlotShape shape, LaneCursor& cursor, std::uint64_t digest, int peer)
      : lane_(lane), shape_(shape), cursor_(&cursor), digest_(digest), peer_(peer) {}

  RT_HD int peer() const { return peer_; }

  /// Whether a slot is free.
  RT_HD bool ready(Order order) const {
    const auto slots = static_cast<unsigned>(shape_.slots);
    if (cursor_->turn - cursor_->drained < slots) return true;
    cursor_->drained = AtomicRef(drained()).load(order);  // pairs with: the signal in release()
    return cursor_->turn - cursor_->drained < slots;
  }

  /// Whether the receiver has given back the slot of `turn`.
  RT_HD bool is_drained(std::uint64_t turn, Order order) const {
    if (cursor_->drained > turn) return true;
    cursor_->drained = AtomicRef(drained()).load(order);  // pairs with: the signal in release()
    return cursor_->drained > turn;
  }

  /// Waits for a free slot; the caller writes the piece to `.data`.
  template <class Team>
  RT_HD Claim claim(Team& team, std::size_t bytes) {
    const std::uint64_t turn = cursor_->turn;
    team.await(peer_, [this](Order order) { return ready(order); });
    SlotHeader& header = shape_.at(lane_ + sizeof(Counter), turn);
    return {&header, turn, header.data(bytes)};
  }

  /// Hands the slot over.
  template <class Team>
  RT_HD void publish(Team& team, const Claim& claim, std::size_t bytes) {
    if (team.leads()) {
      claim.header->digest = digest_;
      claim.header->bytes = bytes;
      cursor_->turn = claim.turn + 1;
    }
    team.signal(peer_, claim.header->filled, claim.turn + 1);  // pairs with: the load in arrival()
  }

 private:
  RT_HD std::uint64_t& drained() const { return reinterpret_cast<Counter*>(lane_)->value; }

  std::byte* lane_;
  SlotShape shape_;
  LaneCursor* cursor_;
  std::uint64_t digest_;
  int peer_;
};

class Receiver {
 public:
  RT_HD Receiver(std::byte* lane, SlotShape shape, LaneCursor& cursor, std::uint64_t digest, int peer)
      : lane_(lane), shape_(shape), cursor_(&cursor), digest_(digest), peer_(peer) {}

  /// Where the next message lies once ready().
  RT_HD SlotHeader& next() const { return shape_.at(lane_ + sizeof(Counter), cursor_->turn); }

  /// Whether the next message is there.
  RT_HD bool ready(Order order) const {
    return AtomicRef(next().filled).load(order) == cursor_->turn + 1;  // pairs with: the signal in publish()
  }

  /// Waits for the next message, which must belong to this call and have `bytes` bytes.
  template <class Team>
  RT_HD Claim arrival(Team& team, std::size_t bytes) {
    const std::uint64_t turn = cursor_->turn;
    SlotHeader& header = next();
    team.await(peer_, [this](Order order) { return ready(order); });
    if (!team.gave_up() && (header.digest != digest_ || header.bytes != bytes))
      team.disagree(peer_, header.bytes, bytes);
    return {&header, turn, header.data(bytes)};
  }

  /// Gives the slot back.
  template <class Team>
  RT_HD void release(Team& team, const Claim& claim) {
    if (team.leads()) cursor_->turn = claim.turn + 1;
    team.signal(peer_, reinterpret_cast<Counter*>(lane_)->value, claim.turn + 1);  // pairs with: claim()
  }

 private:
  std::byte* lane_;
  SlotShape shape_;
  LaneCursor* cursor_;
  std::uint64_t digest_;
  int peer_;
};

/// One lane in memory: the receiver's counter, then the slots.
RT_HD constexpr std::size_t lane_bytes(SlotShape shape) { return sizeof(Counter) + shape.bytes(); }

}  // namespace ringtree
