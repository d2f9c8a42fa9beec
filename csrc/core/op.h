// The reduction operations: one list that C++, Python and the tests expand, and what each does to two values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/numeric.h"
#include "core/platform.h"

namespace ringtree {

/// X(name, how two values combine). `avg` divides the finished sum by the world size; `premul_sum` scales
/// each rank's contribution before it is summed.
#define RINGTREE_REDUCE_OPS(X) \
  X(sum, Sum)                  \
  X(prod, Prod)                \
  X(min, Min)                  \
  X(max, Max)                  \
  X(avg, Sum)                  \
  X(premul_sum, Sum)           \
  X(band, Band)                \
  X(bor, Bor)                  \
  X(bxor, Bxor)

enum class ReduceOp : std::uint8_t {
#define RINGTREE_ENUMERATOR(name, Functor) name,
  RINGTREE_REDUCE_OPS(RINGTREE_ENUMERATOR)
#undef RINGTREE_ENUMERATOR
};

#define RINGTREE_NAME(name, Functor) #name,
inline constexpr auto kReduceOpNames = std::to_array<const char*>({RINGTREE_REDUCE_OPS(RINGTREE_NAME)});
#undef RINGTREE_NAME

inline constexpr std::size_t kReduceOps = kReduceOpNames.size();

constexpr const char* name_of(ReduceOp op) { return kReduceOpNames[static_cast<std::size_t>(op)]; }

constexpr bool supports(ReduceOp op, DType dtype) {
  switch (op) {
    case ReduceOp::avg:
    case ReduceOp::premul_sum: return is_float(dtype);
    case ReduceOp::band:
    case ReduceOp::bor:
    case ReduceOp::bxor: return !is_float(dtype);
    default: return true;
  }
}

// The functors take accumulators (see numeric.h). Their operands do not commute to the bit: where both are
// equal, as 0.0 and -0.0 are, min and max take the left one.

template <class T>
inline constexpr bool kIsBool = std::is_same_v<T, Bool>;

struct Band {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>)
      return {static_cast<std::uint8_t>((left.bits != 0) & (right.bits != 0))};
    else
      return static_cast<T>(left & right);
  }
};

struct Bor {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>)
      return {static_cast<std::uint8_t>((left.bits | right.bits) != 0)};
    else
      return static_cast<T>(left | right);
  }
};

struct Bxor {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>)
      return {static_cast<std::uint8_t>((left.bits != 0) ^ (right.bits != 0))};
    else
      return static_cast<T>(left ^ right);
  }
};

struct Sum {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>) {
      return Bor{}(left, right);
    } else if constexpr (std::is_integral_v<T>) {
      using Wrapping = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Wrapping>(left) + static_cast<Wrapping>(right));
    } else {
      return left + right;
    }
  }
};

struct Prod {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>) {
      return Band{}(left, right);
    } else if constexpr (std::is_integral_v<T>) {
      using Wrapping = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Wrapping>(left) * static_cast<Wrapping>(right));
    } else {
      return left * right;
    }
  }
};

struct Min {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>)
      return Band{}(left, right);
    else
      return (right < left) | (right != right) ? right : left;  // a NaN on either side wins
  }
};

struct Max {
  template <class T>
  RT_INLINE constexpr T operator()(T left, T right) const {
    if constexpr (kIsBool<T>)
      return Bor{}(left, right);
    else
      return (right > left) | (right != right) ? right : left;  // a NaN on either side wins
  }
};

}  // namespace ringtree
