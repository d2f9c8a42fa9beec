// What a kernel is given: one call, of one rank or of several that are launched together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cuda/layout.h"
#include "cuda/reduction.h"
#include "cuda/state.h"

namespace ringtree {

/// One call as all ranks of a launch make it, and what differs between them: an entry for each blockIdx.y.
// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): who makes one zeroes it first
struct DeviceCall {
  DeviceLayout layout;
  std::uint64_t digest, sequence, timeout_ns;
  std::size_t in_bytes, out_bytes;
  std::size_t share;  ///< bytes of each rank, where the shares are equal
  std::size_t in_offsets[kMaxDeviceRanks + 1], out_offsets[kMaxDeviceRanks + 1];
  bool in_is_uneven, out_is_uneven;
  bool unless_reached;  ///< for the algorithm that zero_copy falls back to: does nothing if that has run
  int first_rank;       ///< of blockIdx.y = 0
  int root;
  DeviceReduction reduction;

  DeviceRank* ranks[kMaxDeviceRanks];
  DeviceOffer buffers[kMaxDeviceRanks];
};

static_assert(sizeof(DeviceCall) <= 4096, "it is a kernel's parameter");

using Kernel = void (*)(DeviceCall);

struct NamedKernel {
  Kernel kernel;        ///< null for what makes sense on the host alone
  Kernel over_packets;  ///< for small messages; null if it uses its peers' buffers themselves
  const char* name;
};

/// In the order of the catalogue.
std::span<const NamedKernel> kernels();

}  // namespace ringtree
