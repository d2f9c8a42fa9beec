// Whether a GPU holds at once the blocks of ranks that wait for one another.
#pragma once

#include <cstddef>

#include "cuda/call.h"
#include "cuda/layout.h"

namespace ringtree {

/// The kernel that a call of `entry` takes, and the dynamic memory of each of its blocks.
struct CalledKernel {
  Kernel kernel;
  std::size_t shared_bytes;
};
CalledKernel called(const NamedKernel& entry, bool over_packets, const DeviceLayout& layout);

/// How many blocks of `lanes` threads the device holds at once of whatever kernel: one on each of its
/// multiprocessors, as the kernels are compiled for. Throws TransportError if it cannot hold one of them.
///
/// Loads them, too. CUDA would do it when each is first used, and may wait for the device for that: for
/// kernels of other ranks, which wait for this one.
int blocks_at_once(int device, int world, int lanes);

}  // namespace ringtree
