// Where the links of a communicator lie in the memory that its ranks share.
#pragma once

#include <cstddef>

#include "core/platform.h"
#include "link/slots.h"

namespace ringtree {

struct LinkLayout {
  int world;
  SlotShape lane;    ///< of each ordered pair of ranks, for collectives
  SlotShape mail;    ///< of each ordered pair of ranks, for send and recv
  SlotShape window;  ///< of each rank

  /// Slots in flight a lane. Two let the sender write while the receiver reads; four also hide that one of
  /// them was briefly descheduled (docs/measuring.md).
  static constexpr int kSlots = 4;

  /// Pieces that a large slot has room for, where there are memory and cores for it: in so many slots its
  /// writer comes back to a line when a second-level cache of 1 MiB has lost it.
  static constexpr int kRooms = 4;

  /// Pieces are sized so that what one rank touches in a round stays in a 1 MiB second-level cache, and
  /// shrink with the number of pairs, so that the segment of 64 ranks stays near 300 MiB. `roomy`: writers
  /// may go round, in windows of up to 8 ranks, in lanes of up to 4.
  RT_HD static constexpr LinkLayout of(int world, bool roomy = false) {
    const std::size_t kib = 1024;
    const std::size_t lane = (world <= 4    ? 128
                              : world <= 8  ? 64
                              : world <= 16 ? 32
                              : world <= 32 ? 16
                                            : 8) *
                             kib;
    const std::size_t ranks = static_cast<std::size_t>(world);
    const std::size_t each = 256 * kib / ranks / kCacheLine * kCacheLine;  // a peer's share of a window slot
    const std::size_t mail = world <= 4 ? lane : lane / 4;  // a quarter of the room, for 0.7 of the bandwidth
    return {world,
            {kSlots, lane, roomy && world <= 4 ? kRooms : 1},
            {kSlots, mail, 1},
            {kSlots, (each < kCacheLine ? kCacheLine : each) * ranks, roomy && world <= 8 ? kRooms : 1}};
  }

  RT_HD constexpr std::size_t consumed_offset() const { return 0; }
  RT_HD constexpr std::size_t windows_offset() const { return ranks() * sizeof(Counter); }
  RT_HD constexpr std::size_t lanes_offset() const { return windows_offset() + ranks() * window.bytes(); }
  RT_HD constexpr std::size_t mail_offset() const { return lanes_offset() + pairs() * lane_bytes(lane); }
  RT_HD constexpr std::size_t bytes() const { return mail_offset() + pairs() * lane_bytes(mail); }

  RT_HD constexpr std::size_t lane_offset(int from, int to) const {
    return lanes_offset() + pair(from, to) * lane_bytes(lane);
  }
  RT_HD constexpr std::size_t mail_offset(int from, int to) const {
    return mail_offset() + pair(from, to) * lane_bytes(mail);
  }

 private:
  RT_HD constexpr std::size_t ranks() const { return static_cast<std::size_t>(world); }
  RT_HD constexpr std::size_t pairs() const { return ranks() * (ranks() - 1); }
  RT_HD constexpr std::size_t pair(int from, int to) const {
    return static_cast<std::size_t>(from) * (ranks() - 1) + static_cast<std::size_t>(to < from ? to : to - 1);
  }
};

}  // namespace ringtree
