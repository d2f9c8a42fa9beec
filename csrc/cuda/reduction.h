// The device's reduction of runs of elements: type and operation are known only at run time, and chosen once
// a piece, so that one kernel an algorithm serves them all.
#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

/// By the lanes of a block together: see DeviceReduction.
__device__ void combine_lanes(DType dtype, ReduceOp op, int divisor, void* destination,
                              const void* const* sources, int n_sources, std::size_t count);

/// destination[i] = source[i] * factor for a float type, computed in its accumulator and rounded once: what a
/// rank contributes to a premul_sum.
__global__ void scale_kernel(DType dtype, void* destination, const void* source, std::size_t count,
                             double factor);

/// The same as `Reduction` on the host, to the bit. Kernels count in bytes.
class DeviceReduction {
 public:
  DeviceReduction() = default;
  DeviceReduction(DType dtype, ReduceOp op, int world)
      : dtype_(dtype),
        op_(op == ReduceOp::avg || op == ReduceOp::premul_sum ? ReduceOp::sum : op),
        log2_width_(static_cast<std::uint8_t>(std::countr_zero(size_of(dtype)))),
        last_divisor_(op == ReduceOp::avg ? world : 1) {}

  __device__ DeviceReduction closing() const {
    DeviceReduction last = *this;
    last.divisor_ = last_divisor_;
    return last;
  }

  __device__ void operator()(void* destination, const void* const* sources, int n_sources,
                             std::size_t bytes) const {
    combine_lanes(dtype_, op_, divisor_, destination, sources, n_sources, bytes >> log2_width_);
  }

 private:
  DType dtype_ = DType::uint8;
  ReduceOp op_ = ReduceOp::sum;
  std::uint8_t log2_width_ = 0;  ///< of the bytes of an element
  int divisor_ = 1;
  int last_divisor_ = 1;
};

}  // namespace ringtree
