// Direct steps for small messages: every word travels with its own flag, so that nothing has to be published
// after it, and nothing waits for a credit.
//
//     writer                                          each reader
//     publish: packets into every peer's inbox        view: looks at its own inbox until all packets of
//              {data, flag, data, flag}  ------->           this turn are there
//
// A window (link/window.h) by another protocol: the same steps, so the same algorithms run over it. But only
// those in which every rank looks at every other one in each turn, because an inbox has two slots: who has
// everybody's packets of turn t knows that everybody has read turn t - 1, whose slot turn t + 1 will take.
// Source: NCCL's LL protocol; Z. Hu et al., Demystifying NCCL (2025).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "cuda/layout.h"
#include "link/slots.h"
#include "link/window.h"

namespace ringtree {

class PacketWindow {
 public:
  /// `memories` as in DeviceLinks; `staging` is memory of the block for every rank's message.
  __device__ PacketWindow(std::byte* const* memories, std::size_t channel_offset, const DeviceLayout& layout,
                          PacketCursor& cursor, std::byte* staging, std::uint64_t digest, int rank)
      : memories_(memories),
        inbox_offset_(channel_offset + layout.inbox_offset()),
        layout_(&layout),
        cursor_(&cursor),
        turn_(cursor.turn),
        staging_(staging),
        digest_(digest),
        rank_(rank) {}

  template <class T>
  __device__ std::size_t elements() const {
    return layout_->packets.message_bytes / sizeof(T);
  }
  template <class T>
  __device__ std::size_t elements_each() const {
    return layout_->packets.message_bytes / static_cast<unsigned>(layout_->world) / kCacheLine * kCacheLine /
           sizeof(T);
  }

  template <class Team>
  __device__ Claim claim(Team& /*team*/, std::size_t /*bytes*/) {
    return {nullptr, turn_, staged(rank_)};
  }

  template <class Team>
  __device__ void publish(Team& team, const Claim& /*claim*/, std::size_t bytes) {
    team.sync();  // every lane has staged its part
    if (team.gave_up()) return;
    const auto* words = reinterpret_cast<const std::uint64_t*>(staged(rank_));
    for (std::size_t i = threadIdx.x; i < PacketShape::packets_of(bytes); i += blockDim.x) {
      const std::uint64_t word = i == 0 ? digest_ : i == 1 ? bytes : words[i - PacketShape::kHeader];
      for (int step = 1; step < layout_->world; ++step) {  // not all at once to the same one
        const int peer = rank_ + step < layout_->world ? rank_ + step : rank_ + step - layout_->world;
        store_packet(inbox(peer, rank_) + i * sizeof(Pack), word, flag());
      }
    }
  }

  template <class Team>
  __device__ const std::byte* view(Team& team, int peer, std::size_t bytes) {
    if (peer == rank_) return staged(rank_);
    auto* words = reinterpret_cast<std::uint64_t*>(staged(peer));
    for (std::size_t i = threadIdx.x; i < PacketShape::packets_of(bytes); i += blockDim.x) {
      std::uint64_t word = 0;
      const std::byte* packet = inbox(rank_, peer) + i * sizeof(Pack);
      if (!team.await_lane(peer, [&] { return load_packet(packet, flag(), word); })) break;
      if (i >= PacketShape::kHeader)
        words[i - PacketShape::kHeader] = word;
      else if (word != (i == 0 ? digest_ : bytes))
        team.disagree_alone(peer);  // before others have waited long for packets that may never come
    }
    team.join();
    return staged(peer);
  }

  template <class Team>
  __device__ void done(Team& team) {
    team.sync();
    ++turn_;
    if (team.leads()) cursor_->turn = turn_;
  }

 private:
  /// Never 0, which fresh memory holds. It comes again after four billion turns: what was left behind then,
  /// in a packet that no message since has used, would pass for new.
  __device__ std::uint32_t flag() const { return static_cast<std::uint32_t>(turn_ % 0xFFFFFFFF) + 1; }

  __device__ std::byte* staged(int rank) const {
    return staging_ + static_cast<std::size_t>(rank) * layout_->packets.message_bytes;
  }

  __device__ std::byte* inbox(int owner, int sender) const {
    return memories_[owner] + inbox_offset_ + layout_->packets.offset_of(turn_ % 2, sender, layout_->world);
  }

  std::byte* const* memories_;
  std::size_t inbox_offset_;
  const DeviceLayout* layout_;
  PacketCursor* cursor_;
  std::uint64_t turn_;
  std::byte* staging_;
  std::uint64_t digest_;
  int rank_;
};

}  // namespace ringtree
