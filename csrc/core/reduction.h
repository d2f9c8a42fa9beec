// The host's reduction of runs of elements whose type and operation are known only at run time.
#pragma once

#include <cstddef>

#include "core/dtype.h"
#include "core/op.h"
#include "core/reduction_table.h"

namespace ringtree {

class Reduction {
 public:
  /// Throws InvalidArgument where `op` does not exist for `dtype`. `premul_sum` is a sum here: whoever
  /// contributes scales first (see scale()).
  Reduction(DType dtype, ReduceOp op, int world, const ReductionTable& table = default_reduction_table());

  /// destination[i] = sources[0][i] op sources[1][i] op ..., from left to right. Small floats are summed in
  /// float32 over all sources and rounded once; a NaN result is always kNaN.
  ///
  /// n_sources >= 1; one source is copied as it is. `destination` may be one of the sources but must not
  /// overlap one partly. No pointer needs any alignment.
  void operator()(void* destination, const void* const* sources, int n_sources, std::size_t count) const {
    loop_(destination, sources, n_sources, count, world_);
  }

  /// The same reduction for the last time that an element is combined: `avg` is a sum until then, and here
  /// also divides by the world size, before the one rounding.
  Reduction closing() const {
    Reduction last = *this;
    last.loop_ = closing_loop_;
    return last;
  }

 private:
  ReduceLoop loop_;
  ReduceLoop closing_loop_;
  int world_;
};

/// destination[i] = source[i] * factor for a float type, computed in its accumulator and rounded once.
/// `destination` may be `source`.
void scale(DType dtype, void* destination, const void* source, std::size_t count, double factor,
           const ReductionTable& table = default_reduction_table());

/// The loops in use: "avx512", "avx2" or "portable", which is "neon" on Arm.
const char* simd_name();

}  // namespace ringtree
