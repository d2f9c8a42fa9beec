// Where the links of the device lie: each rank owns memory on its GPU, one part a channel.
//
//     a channel   | consumed counter | window | lane from rank 0 | lane from rank 1 | ... | inbox
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/gpu.h"
#include "core/platform.h"
#include "link/slots.h"

namespace ringtree {

inline constexpr int kMaxDeviceRanks = kMaxGpuRanks;
inline constexpr int kMaxChannels = 64;

/// A block is worth its part in starting and ending a call from so many bytes on. Not measured yet.
inline constexpr std::size_t kBytesPerChannel = std::size_t{32} << 10U;

/// A channel begins at a multiple of so many bytes, so that two never write to one line of a cache.
inline constexpr std::size_t kGrainBytes = 512;

/// Packets of 16 bytes, half of which are flags: see packets.h.
struct PacketShape {
  std::size_t message_bytes;  ///< of data, at most; a multiple of the cache line

  static constexpr std::size_t kHeader = 2;  ///< packets for digest and size
  static constexpr unsigned kSlots = 2;

  RT_HD static constexpr std::size_t packets_of(std::size_t bytes) { return kHeader + (bytes + 7) / 8; }
  RT_HD constexpr std::size_t stride() const { return packets_of(message_bytes) * sizeof(Pack); }
  RT_HD constexpr std::size_t offset_of(std::uint64_t slot, int sender, int world) const {
    return (slot * static_cast<unsigned>(world) + static_cast<unsigned>(sender)) * stride();
  }
};

/// How many turns of packets there have been.
struct PacketCursor {
  std::uint64_t turn;
};

struct DeviceLayout {
  int world;
  int channels;
  SlotShape lane, window;
  PacketShape packets;

  static constexpr int kSlots = 4;

  /// A lane's slot holds two sweeps of copies by a block of 512 lanes, a window's slot and all ranks' packets
  /// an equal share for each rank. Not measured yet.
  static constexpr DeviceLayout of(int world, int channels, std::size_t lane_bytes = std::size_t{128} << 10,
                                   std::size_t window_bytes = std::size_t{256} << 10,
                                   std::size_t packet_bytes = std::size_t{32} << 10) {
    const auto ranks = static_cast<std::size_t>(world);
    const auto share = [ranks](std::size_t bytes) {
      const std::size_t each = bytes / ranks / kCacheLine * kCacheLine;
      return each < kCacheLine ? kCacheLine : each;
    };
    return {world,
            channels,
            {kSlots, lane_bytes},
            {kSlots, share(window_bytes) * ranks},
            {share(packet_bytes) < kCacheLine * ranks ? kCacheLine * ranks : share(packet_bytes)}};
  }

  RT_HD constexpr std::size_t window_offset() const { return sizeof(Counter); }
  RT_HD constexpr std::size_t lane_offset(int from) const {
    return window_offset() + window.bytes() + static_cast<std::size_t>(from) * lane_bytes(lane);
  }
  RT_HD constexpr std::size_t inbox_offset() const { return lane_offset(world); }
  RT_HD constexpr std::size_t channel_bytes() const {
    return inbox_offset() + packets.offset_of(PacketShape::kSlots, 0, world);
  }
  /// Memory of a block that runs over packets: room for a message of each rank.
  constexpr std::size_t staging_bytes() const {
    return static_cast<std::size_t>(world) * packets.message_bytes;
  }
  RT_HD constexpr std::size_t channel_offset(int channel) const {
    return static_cast<std::size_t>(channel) * channel_bytes();
  }
  /// Of one rank.
  constexpr std::size_t bytes() const { return channel_offset(channels); }
};

}  // namespace ringtree
