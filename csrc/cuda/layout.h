// Where the links of the device lie: each rank owns memory on its GPU, one part a channel.
//
//     a channel   | consumed counter | window | lane from rank 0 | lane from rank 1 | ...
#pragma once

#include <cstddef>

#include "core/platform.h"
#include "link/slots.h"

namespace ringtree {

inline constexpr int kMaxDeviceRanks = 16;
inline constexpr int kMaxChannels = 64;

struct DeviceLayout {
  int world;
  int channels;
  SlotShape lane, window;

  static constexpr int kSlots = 4;

  /// A lane's slot holds two sweeps of copies by a block of 512 lanes; a window's slot an equal share for
  /// each rank. Not measured yet.
  static constexpr DeviceLayout of(int world, int channels, std::size_t lane_bytes = std::size_t{128} << 10,
                                   std::size_t window_bytes = std::size_t{256} << 10) {
    const auto ranks = static_cast<std::size_t>(world);
    const std::size_t each = window_bytes / ranks / kCacheLine * kCacheLine;
    return {world, channels, {kSlots, lane_bytes}, {kSlots, (each < kCacheLine ? kCacheLine : each) * ranks}};
  }

  RT_HD constexpr std::size_t window_offset() const { return sizeof(Counter); }
  RT_HD constexpr std::size_t lane_offset(int from) const {
    return window_offset() + window.bytes() + static_cast<std::size_t>(from) * lane_bytes(lane);
  }
  RT_HD constexpr std::size_t channel_bytes() const { return lane_offset(world); }
  RT_HD constexpr std::size_t channel_offset(int channel) const {
    return static_cast<std::size_t>(channel) * channel_bytes();
  }
  /// Of one rank.
  constexpr std::size_t bytes() const { return channel_offset(channels); }
};

}  // namespace ringtree
