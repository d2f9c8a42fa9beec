// The reduction loops of one instruction set, by type and operation, and the choice between the sets.
#pragma once

#include <cstddef>

#include "core/dtype.h"
#include "core/op.h"
#include "core/span.h"

namespace ringtree {

using ReduceLoop = void (*)(void* destination, const void* const* sources, int n_sources, std::size_t count,
                            int world);
using ScaleLoop = void (*)(void* destination, const void* source, std::size_t count, double factor);

/// Null where the operation does not exist for the type.
struct ReductionTable {
  const char* name;
  ReduceLoop reduce[kReduceOps][kDTypes];
  ReduceLoop average[kDTypes];  ///< the sum, divided by world
  ScaleLoop scale[kDTypes];
};

/// What this machine can run, the fastest first; the portable loops are always there and last.
Span<const ReductionTable* const> reduction_tables();

/// The one called `name`, or the fastest for "". Throws InvalidArgument when this machine has no such.
const ReductionTable& reduction_table(const char* name);

/// What the environment variable RINGTREE_SIMD names, by default the fastest. Looked up once.
const ReductionTable& default_reduction_table();

}  // namespace ringtree
