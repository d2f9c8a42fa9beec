// Where the links of the device lie: each rank owns memory on its GPU, one part a channel.
//
//     a channel   | counters | window | lane from rank 0 | from rank 1 | ...
//                 | inbox | packets from rank 0 | from rank 1 | ...
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

/// Of 16 bytes, with the data's flag among them: packets of 8 and 8, or lines of 12 and 4. See packets.h.
struct PacketShape {
  std::size_t
      message_bytes;  ///< of data in a turn of the window, at most; a multiple of two lines of the cache
  std::size_t piece_bytes;  ///< of data in a slot of a lane, at most; a multiple of the cache line
  bool lines;

  static constexpr unsigned kSlots = 2;      ///< of an inbox
  static constexpr unsigned kLaneSlots = 4;  ///< of a lane
  static constexpr unsigned kAreas = 4;      ///< pieces that a rank has at hand at the same time, at most
  static constexpr std::size_t kMostHeader = 4;

  /// Digest and size come first.
  RT_HD constexpr std::size_t header() const { return lines ? 1 : 2; }
  RT_HD constexpr std::size_t packets_of(std::size_t bytes) const {
    return header() + (lines ? (bytes + 11) / 12 : (bytes + 7) / 8);
  }
  /// Room for so much data in either kind.
  RT_HD static constexpr std::size_t room_for(std::size_t bytes) {
    return (kMostHeader + bytes / 8) * sizeof(Pack);
  }

  RT_HD constexpr std::size_t inbox_offset_of(std::uint64_t slot, int sender, int world) const {
    return (slot * static_cast<unsigned>(world) + static_cast<unsigned>(sender)) * room_for(message_bytes);
  }
  RT_HD constexpr std::size_t lane_bytes() const {
    return sizeof(Counter) + kLaneSlots * room_for(piece_bytes);
  }
  /// Memory of a block for the pieces at hand.
  constexpr std::size_t areas_bytes() const { return kAreas * piece_bytes; }
  /// The same, or for a message of each rank.
  constexpr std::size_t staging_bytes(int world) const {
    const std::size_t messages = static_cast<std::size_t>(world) * message_bytes;
    return messages > areas_bytes() ? messages : areas_bytes();
  }
};

/// How far a rank has come with inboxes.
struct PacketCursor {
  std::uint64_t turn;
  std::uint64_t consumed;  ///< turns that every peer is known to have read
};

struct DeviceLayout {
  int world;
  int channels;
  SlotShape lane, window;
  PacketShape packets;

  static constexpr int kSlots = 4;

  /// A lane's slot holds two sweeps of copies by a block of 512 lanes, a slot of its packets one sweep of
  /// lines; a window's slot, and all ranks' messages of packets, an equal share for each rank. Not measured
  /// yet.
  static constexpr DeviceLayout of(int world, int channels, std::size_t lane_bytes = std::size_t{128} << 10,
                                   std::size_t window_bytes = std::size_t{256} << 10,
                                   std::size_t packet_bytes = std::size_t{32} << 10) {
    const auto ranks = static_cast<std::size_t>(world);
    const auto share = [ranks](std::size_t bytes, std::size_t grain) {
      const std::size_t each = bytes / ranks / grain * grain;
      return each < grain ? grain : each;
    };
    return {
        world,
        channels,
        {kSlots, lane_bytes, 1},
        {kSlots, share(window_bytes, kCacheLine) * ranks, 1},
        {share(packet_bytes, 2 * kCacheLine), (packet_bytes * 3 / 16 / kCacheLine - 1) * kCacheLine, false}};
  }

  RT_HD static constexpr std::size_t packets_consumed_offset() { return sizeof(Counter); }
  RT_HD constexpr std::size_t window_offset() const {
    return packets_consumed_offset() + static_cast<std::size_t>(world) * sizeof(Counter);
  }
  RT_HD constexpr std::size_t lane_offset(int from) const {
    return window_offset() + window.bytes() + static_cast<std::size_t>(from) * lane_bytes(lane);
  }
  RT_HD constexpr std::size_t inbox_offset() const { return lane_offset(world); }
  RT_HD constexpr std::size_t packet_lane_offset(int from) const {
    return inbox_offset() + packets.inbox_offset_of(PacketShape::kSlots, 0, world) +
           static_cast<std::size_t>(from) * packets.lane_bytes();
  }
  RT_HD constexpr std::size_t channel_bytes() const { return packet_lane_offset(world); }
  RT_HD constexpr std::size_t channel_offset(int channel) const {
    return static_cast<std::size_t>(channel) * channel_bytes();
  }
  /// Of one rank.
  constexpr std::size_t bytes() const { return channel_offset(channels); }
};

}  // namespace ringtree
