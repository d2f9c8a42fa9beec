// The least that work on a GPU can take, measured: an empty kernel, and two blocks that answer each other.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gpu_probe.h"

namespace ringtree {

/// Each block writes one of them, and waits for the other. Apart, so that neither shares a line of the cache.
struct Flags {
  alignas(128) std::uint64_t call;
  alignas(128) std::uint64_t answer;
};

__global__ void empty_kernel();

/// Two blocks of one lane. Leaves early, with fewer answers, if the other block does not come.
__global__ void round_trip_kernel(Flags* flags, std::uint64_t count);

GpuProbe& cuda_probe();

}  // namespace ringtree
