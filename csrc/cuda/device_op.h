// A reduction as the device computes it: element by element, type and operation known at compile time.
#pragma once

#include <cstddef>

#include "core/numeric.h"
#include "core/op.h"

namespace ringtree {

template <class T, class Functor>
struct DeviceOp {
  int divisor = 1;  ///< what closing() divides by: the world size for avg, else 1
  bool divides_now = false;

  RT_HD DeviceOp closing() const { return {divisor, divisor != 1}; }

  /// sources[0][i] op sources[1][i] op ..., in this order, rounded once.
  __device__ T operator()(const void* const* sources, int n_sources, std::size_t i) const {
    auto sum = widen(static_cast<const T*>(sources[0])[i]);
    for (int source = 1; source < n_sources; ++source)
      sum = Functor{}(sum, widen(static_cast<const T*>(sources[source])[i]));
    if constexpr (!std::is_integral_v<decltype(sum)> && !kIsBool<decltype(sum)>)
      if (divides_now) sum /= static_cast<decltype(sum)>(divisor);
    return narrow<T>(sum);
  }
};

}  // namespace ringtree
