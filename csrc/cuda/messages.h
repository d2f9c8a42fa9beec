// send and recv on the GPU: a kernel that a rank launches for the messages of one call.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/gpu.h"
#include "cuda/layout.h"
#include "cuda/state.h"

namespace ringtree {

/// What the kernel is given. Each rank works through its letters in rounds: in round d it sends to the rank d
/// places on and receives from the one d places before it, so that a letter and its counterpart have the same
/// round, and no circle of ranks can wait for one another.
// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): who makes one zeroes it first
struct DeviceMessages {
  DeviceLayout layout;
  std::uint64_t sequence, timeout_ns;
  /// So many bytes of each channel's part of a letter go in packets, up to the end of a piece: 0, none; 1,
  /// the first piece. The rest goes in slots, which hold more of what its receiver does not yet take.
  std::size_t in_packets;
  DeviceRank* rank;
  int own_rank;
  int outgoing;  ///< so many letters are sent; those behind them are received
  int letters;
  GpuLetter of[kMaxGpuLetters];
};

static_assert(sizeof(DeviceMessages) <= 4096, "it is a kernel's parameter");

/// So many blocks share a letter: both of its ranks have to agree.
RT_HD constexpr int message_channels(std::size_t bytes, int channels) {
  const std::size_t wanted = bytes / kBytesPerChannel + 1;
  // Half of the blocks that fit send, and half receive: all of them have to be resident.
  const auto most = static_cast<std::size_t>(channels < 2 ? 1 : channels / 2);
  return static_cast<int>(wanted < most ? wanted : most);
}

/// A grid of (channels, 2): blockIdx.y is 0 for those that send, and 1 for those that receive.
__global__ void messages_kernel(const __grid_constant__ DeviceMessages messages);

}  // namespace ringtree
