// What a rank keeps on its GPU and in memory that it shares with its host, and what kernels show each other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/gpu.h"
#include "cuda/layout.h"
#include "cuda/report.h"
#include "link/slots.h"
#include "link/window.h"

namespace ringtree {

/// What one channel of a rank remembers between calls, so that a replayed graph goes on where the last replay
/// ended. In device memory.
struct ChannelState {
  LaneCursor sent[kMaxDeviceRanks];
  LaneCursor received[kMaxDeviceRanks];
  WindowCursor window;
  LaneCursor packets_sent[kMaxDeviceRanks];
  LaneCursor packets_received[kMaxDeviceRanks];
  PacketCursor packet_window;
};

/// What a block is made of: see GpuBlockTable.
enum BlockKind : std::uint32_t { kAllocation, kRun };
inline constexpr int kBlockKinds = 2;

/// Where a rank has mapped the blocks of a peer, by kind and number; the first is number 1.
struct MappedBlocks {
  std::byte* bases[kBlockKinds][GpuBlockTable::kBlocks];
};

/// In memory of the host that the kernels of a rank reach.
struct HostShare {
  DeviceReport report;
  MappedBlocks blocks[kMaxDeviceRanks];
};

/// On its GPU, for all of its calls.
struct DeviceRank {
  std::byte* memories[kMaxDeviceRanks];  ///< the link memory of each rank, as this one reaches it
  HostShare* host;
  ChannelState channels[kMaxChannels];
  std::uint64_t reached;      ///< the sequence number of the newest call whose buffers were all reached
  unsigned int ended_blocks;  ///< of the newest kernel
  unsigned int has_failed;    ///< a kernel has given up, and so do all later ones
  unsigned int has_reported;  ///< a block writes, or has written, why
  // What the report in the host's memory says, kept here as well: to read it there takes a microsecond.
  std::uint64_t kernels;  ///< how many have begun
  std::uint64_t ended_together, finished, finished_messages;
};

/// One buffer as the ranks of other processes know it.
struct BufferPlace {
  std::uint64_t offset;  ///< in its block
  std::uint32_t block;   ///< 0: in none that peers may map
  BlockKind kind;
};

/// A rank's buffers: as addresses for ranks of its process, as places for the others.
struct DeviceOffer {
  const void* in;
  void* out;
  BufferPlace in_place, out_place;
  std::uint64_t process;
  int device;                      ///< its number in that process
  bool in_is_plain, out_is_plain;  ///< see is_plain(); told where the process's ranks have several GPUs
  /// How many blocks of each rank this one had mapped at the launch.
  std::uint32_t known[kBlockKinds][kMaxDeviceRanks];
};

/// Memory of a block for the offers of all ranks.
constexpr std::size_t meeting_bytes(int world) {
  return static_cast<std::size_t>(world) * sizeof(DeviceOffer);
}
static_assert(meeting_bytes(kMaxDeviceRanks) == 3072, "bench/ringtree_bench/gpu/kernels.py knows it, too");

}  // namespace ringtree
