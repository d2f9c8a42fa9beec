// The device's copies of runs of bytes. A function of their own, compiled once, since their loops take all
// registers: compiled into the steps of an algorithm they made it spill (docs/kernels.md).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace ringtree {

/// By the lanes of a block together; the ranges do not overlap. Nothing beside them is touched.
__device__ void copy_lanes(std::byte* to, const std::byte* from, std::size_t bytes);

}  // namespace ringtree
