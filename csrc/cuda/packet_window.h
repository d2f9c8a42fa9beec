// Direct steps over packets: a window (link/window.h) in which what a rank posts is written into its readers'
// inboxes.
//
//     writer                                          each reader
//     publish: packets into the peers' inboxes        view: looks at its own inbox until all packets of
//              {data, flag, data, flag}  ------->           this turn are there
//
// The same steps, so the same algorithms run over it. An inbox has two slots. Where every rank looks at every
// other one in each turn, nobody needs a credit: who has everybody's packets of turn t knows that everybody
// has read turn t - 1, whose slot turn t + 1 will take. Else ranks count the turns that they have read, as
// they do in other windows, and who posts looks at the counters.
//
// tests/model/packets.pml checks this in every interleaving.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "cuda/layout.h"
#include "cuda/packets.h"
#include "link/slots.h"

namespace ringtree {

/// `kAllSee`: whether every rank looks at every other one in each turn.
template <bool kAllSee>
class PacketWindow {
 public:
  /// `memories` as in DeviceLinks; `staging` is memory of the block for every rank's message.
  __device__ PacketWindow(std::byte* const* memories, std::size_t channel_offset, const DeviceLayout& layout,
                          PacketCursor& cursor, std::byte* staging, std::uint64_t digest, int rank)
      : memories_(memories),
        channel_offset_(channel_offset),
        layout_(&layout),
        cursor_(&cursor),
        turn_(cursor.turn),
        consumed_(cursor.consumed),
        staging_(staging),
        digest_(digest),
        rank_(rank) {}

  template <class T>
  __device__ std::size_t elements() const {
    return layout_->packets.message_bytes / sizeof(T);
  }
  template <class T>
  __device__ std::size_t elements_each() const {
    return area_bytes() / sizeof(T);
  }
  template <class T>
  __device__ std::size_t elements_posted() const {
    return elements<T>();
  }

  template <class Team>
  __device__ Claim claim(Team& team, std::size_t /*bytes*/, bool /*roams*/ = false) {
    await_room(team);
    return {nullptr, turn_, staged(rank_), 0};
  }

  template <class Team>
  __device__ void publish(Team& team, const Claim& /*claim*/, std::size_t bytes) {
    put(team, bytes, 1, layout_->world - 1);
  }

  template <class Team>
  __device__ void publish_to(Team& team, int reader, const Claim& /*claim*/, std::size_t bytes) {
    const int step = reader > rank_ ? reader - rank_ : reader - rank_ + layout_->world;
    put(team, bytes, step, step);
  }

  template <class Team>
  __device__ const std::byte* view(Team& team, int peer, std::size_t bytes) {
    receive(team, peer, staged(peer), bytes);
    return staged(peer);
  }

  template <class Team, class Use>
  __device__ void each_view(Team& team, std::size_t bytes, Use use) {
    each_view(team, bytes, [=](int) { return bytes; }, use);
  }

  template <class Team, class BytesOf, class Use>
  __device__ void each_view(Team& team, std::size_t most_bytes, BytesOf bytes_of, Use use) {
    receive_all(team, most_bytes, bytes_of, [this](int peer) { return staged(peer); }, use);
  }

  // Parts that are sent lie in the first half of the staging memory, those that arrive in the second.

  /// Packets are made of whole words.
  __device__ static std::size_t part_stride(std::size_t part_bytes) {
    return (part_bytes + sizeof(Pack) - 1) / sizeof(Pack) * sizeof(Pack);
  }

  template <class Team>
  __device__ Claim claim_parts(Team& team, std::size_t /*part_bytes*/, bool /*roams*/) {
    await_room(team);
    return {nullptr, turn_, staging_, 0};
  }

  template <class Team>
  __device__ void publish_parts(Team& team, const Claim& claim, std::size_t part_bytes) {
    team.sync();
    if (team.gave_up()) return;
    for (int step = 1; step < layout_->world; ++step) {
      const int peer = further(step);
      const PacketMessage part =
          message(claim.data + static_cast<unsigned>(peer) * part_stride(part_bytes), part_bytes);
      for (std::uint32_t i = threadIdx.x; i < part.packets(); i += blockDim.x)
        part.put(inbox(peer, rank_), i);
    }
  }

  template <class Team>
  __device__ const std::byte* view_part(Team& team, int peer, std::size_t part_bytes) {
    receive(team, peer, arrived(peer), part_bytes);
    return arrived(peer);
  }

  template <class Team, class Use>
  __device__ void each_part(Team& team, std::size_t part_bytes, Use use) {
    receive_all(
        team, part_bytes, [=](int) { return part_bytes; }, [this](int peer) { return arrived(peer); }, use);
  }

  template <class Team>
  __device__ void done(Team& team) {
    team.sync();
    if constexpr (kAllSee) consumed_ = turn_;
    ++turn_;
    if (team.leads()) *cursor_ = {turn_, consumed_};
    // No release: what the loads of this turn have brought lies in memory of the block by now.
    if constexpr (!kAllSee)
      for (int peer = static_cast<int>(threadIdx.x); peer < layout_->world && !team.gave_up();
           peer += static_cast<int>(blockDim.x))
        AtomicRef(consumed(peer, rank_)).store(turn_, relaxed);  // pairs with: await_room()
  }

 private:
  /// Until everybody has read the turn whose slot this one takes.
  template <class Team>
  __device__ void await_room(Team& team) {
    if (turn_ < consumed_ + PacketShape::kSlots) return;  // alike on all lanes
    const std::uint64_t needed = turn_ + 1 - PacketShape::kSlots;
    const auto wait = [&](int peer, auto& one) {
      if (peer == rank_) return;
      one.await(peer, [&](Order order) { return AtomicRef(consumed(rank_, peer)).load(order) >= needed; });
    };
    team.apart(layout_->world, wait, [](int) {});
    consumed_ = needed;
  }

  /// This rank's message to those that are `first` to `last` places on.
  template <class Team>
  __device__ void put(Team& team, std::size_t bytes, int first, int last) const {
    team.sync();  // every lane has staged its part
    if (team.gave_up()) return;
    const PacketMessage own = message(staged(rank_), bytes);
    for (std::uint32_t i = threadIdx.x; i < own.packets(); i += blockDim.x)
      for (int step = first; step <= last; ++step) own.put(inbox(further(step), rank_), i);
  }

  template <class Team>
  __device__ void receive(Team& team, int peer, std::byte* to, std::size_t bytes) const {
    const PacketMessage theirs = message(to, bytes);
    for (std::uint32_t i = threadIdx.x; i < theirs.packets(); i += blockDim.x)
      if (!theirs.take(team, peer, inbox(rank_, peer), i)) break;
    team.join();
  }

  /// From all at the same time: small messages would leave most lanes idle, and each wait costs a load.
  template <class Team, class BytesOf, class PlaceOf, class Use>
  __device__ void receive_all(Team& team, std::size_t most_bytes, BytesOf bytes_of, PlaceOf place_of,
                              Use use) const {
    const auto most = static_cast<std::uint32_t>(layout_->packets.packets_of(most_bytes));
    const std::uint32_t all = most * static_cast<unsigned>(layout_->world - 1);
    for (std::uint32_t place = threadIdx.x; place < all; place += blockDim.x) {
      const int peer = further(1 + static_cast<int>(place / most));
      const PacketMessage theirs = message(place_of(peer), bytes_of(peer));
      const std::uint32_t i = place % most;
      if (i < theirs.packets() && !theirs.take(team, peer, inbox(rank_, peer), i)) break;
    }
    team.join();
    if (team.gave_up()) return;
    for (int peer = 0; peer < layout_->world; ++peer)
      if (peer != rank_) use(peer, static_cast<const std::byte*>(place_of(peer)));
  }

  __device__ PacketMessage message(std::byte* data, std::size_t bytes) const {
    return {layout_->packets, digest_, turn_, data, bytes};
  }

  /// The rank `step` places on: not all at once turn to the same one.
  __device__ int further(int step) const {
    return rank_ + step < layout_->world ? rank_ + step : rank_ + step - layout_->world;
  }

  __device__ std::size_t area_bytes() const {
    return layout_->packets.message_bytes / 2 / kCacheLine * kCacheLine;
  }
  __device__ std::byte* staged(int rank) const {
    return staging_ + static_cast<unsigned>(rank) * layout_->packets.message_bytes;
  }
  __device__ std::byte* arrived(int peer) const {
    return staging_ + static_cast<unsigned>(layout_->world + peer) * area_bytes();
  }

  __device__ std::byte* inbox(int owner, int sender) const {
    return memories_[owner] + channel_offset_ + layout_->inbox_offset() +
           layout_->packets.inbox_offset_of(turn_ % PacketShape::kSlots, sender, layout_->world);
  }
  /// At `owner`, how many turns `reader` has read: who waits looks at its own memory.
  __device__ std::uint64_t& consumed(int owner, int reader) const {
    std::byte* const counters = memories_[owner] + channel_offset_ + layout_->packets_consumed_offset();
    return reinterpret_cast<Counter*>(counters)[reader].value;
  }

  std::byte* const* memories_;
  std::size_t channel_offset_;
  const DeviceLayout* layout_;
  PacketCursor* cursor_;
  std::uint64_t turn_;
  std::uint64_t consumed_;
  std::byte* staging_;
  std::uint64_t digest_;
  int rank_;
};

}  // namespace ringtree
