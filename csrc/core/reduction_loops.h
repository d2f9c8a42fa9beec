// The loops behind every reduction on the host. Each reduction_<set>.cpp includes this file once, names its
// instruction set in RINGTREE_LOOPS, and is compiled with flags that vectorise the loops for that set.
//
// Nothing here may reach the linker under a name that another set shares: it would keep one copy for all
// machines. So everything is in an unnamed namespace, what it calls is RT_INLINE, and the standard library
// lends only types.
#pragma once

#include <cstddef>
#include <cstring>

#include "core/dtype.h"
#include "core/numeric.h"
#include "core/op.h"
#include "core/reduction_lanes.h"
#include "core/reduction_table.h"

namespace ringtree::RINGTREE_LOOPS {
namespace {

// What becomes of a combined value before it is stored.

struct Keep {
  template <class V>
  RT_INLINE V operator()(V value) const {
    return value;
  }
};

template <class T>
struct Divide {
  Accumulator<T> divisor;

  template <class V>
  RT_INLINE V operator()(V value) const {
    return value / divisor;
  }
};

template <class T>
struct Multiply {
  Accumulator<T> factor;

  template <class V>
  RT_INLINE V operator()(V value) const {
    return value * factor;
  }
};

// `out` may be exactly an input, which ivdep knows not to fear: no iteration reads what another wrote. Not
// inlined, because GCC would interchange the loop with the one over sources and then not vectorise it.

/// out[i] = finish(in[i])
template <class T, class Finish>
[[gnu::noinline]] void map(Unaligned<T>* out, const Unaligned<T>* in, std::size_t count, Finish finish) {
  std::size_t i = 0;
  if constexpr (kLanes<T> != 0)
    for (; i + kLanes<T> <= count; i += kLanes<T>) store(out + i, finish(load_lanes(in + i)));
#pragma GCC ivdep
  for (; i < count; ++i) store(out + i, finish(load(in + i)));
}

/// out[i] = finish(left[i] op right[i]); `Out` and `Left` are Unaligned<T> or Partial<T>.
template <class Op, class Out, class Left, class T, class Finish>
[[gnu::noinline]] void combine(Out* out, const Left* left, const Unaligned<T>* right, std::size_t count,
                               Finish finish) {
  std::size_t i = 0;
  if constexpr (kLanes<T> != 0)
    for (; i + kLanes<T> <= count; i += kLanes<T>)
      store(out + i, finish(Op{}(load_lanes(left + i), load_lanes(right + i))));
#pragma GCC ivdep
  for (; i < count; ++i) store(out + i, finish(Op{}(load(left + i), load(right + i))));
}

/// Three and more sources meet in a tile of partial results that stays in the first-level cache. On Zen 5
/// 1 to 8 KiB were equally fast and 16 KiB slower.
constexpr std::size_t kTileBytes = 4096;

template <class Op, class T, class Finish>
void fold(void* destination, const void* const* sources, int n_sources, std::size_t count, Finish finish) {
  const auto out = static_cast<Unaligned<T>*>(destination);
  const auto in = [sources](int source) { return static_cast<const Unaligned<T>*>(sources[source]); };

  if (n_sources == 1) return map(out, in(0), count, finish);
  if (n_sources == 2) return combine<Op>(out, in(0), in(1), count, finish);

  constexpr std::size_t kTile = kTileBytes / sizeof(Partial<T>);
  Partial<T> tile[kTile];
  const int last = n_sources - 1;
  for (std::size_t begin = 0; begin < count; begin += kTile) {
    const std::size_t size = count - begin < kTile ? count - begin : kTile;
    combine<Op>(tile, in(0) + begin, in(1) + begin, size, Keep{});
    for (int source = 2; source < last; ++source) combine<Op>(tile, tile, in(source) + begin, size, Keep{});
    combine<Op>(out + begin, tile, in(last) + begin, size, finish);
  }
}

template <class Op, class T>
void reduce(void* destination, const void* const* sources, int n_sources, std::size_t count, int /*world*/) {
  if (n_sources > 1)
    fold<Op, T>(destination, sources, n_sources, count, Keep{});
  else if (destination != sources[0] && count != 0)
    std::memcpy(destination, sources[0], count * sizeof(T));
}

template <class T>
void average(void* destination, const void* const* sources, int n_sources, std::size_t count, int world) {
  fold<Sum, T>(destination, sources, n_sources, count, Divide<T>{static_cast<Accumulator<T>>(world)});
}

template <class T>
void scale(void* destination, const void* source, std::size_t count, double factor) {
  map(static_cast<Unaligned<T>*>(destination), static_cast<const Unaligned<T>*>(source), count,
      Multiply<T>{static_cast<Accumulator<T>>(factor)});
}

template <DType dtype, class T>
consteval void enter(ReductionTable& table) {
  constexpr auto column = static_cast<std::size_t>(dtype);
#define RINGTREE_ENTER(op, Functor)            \
  if constexpr (supports(ReduceOp::op, dtype)) \
    table.reduce[static_cast<std::size_t>(ReduceOp::op)][column] = reduce<Functor, T>;
  RINGTREE_REDUCE_OPS(RINGTREE_ENTER)
#undef RINGTREE_ENTER
  if constexpr (is_float(dtype)) {
    table.average[column] = average<T>;
    table.scale[column] = scale<T>;
  }
}

consteval ReductionTable table_called(const char* name) {
  ReductionTable table{};
  table.name = name;
#define RINGTREE_ENTER(dtype, text, Storage) enter<DType::dtype, Storage>(table);
  RINGTREE_DTYPES(RINGTREE_ENTER)
#undef RINGTREE_ENTER
  return table;
}

}  // namespace
}  // namespace ringtree::RINGTREE_LOOPS
