// The loops behind DeviceReduction: one for each type and operation.
//
// A lane keeps a few packs of every source in registers: it loads those of the next source while it combines
// the last one's, and stores nothing before all is combined. Where packs cannot be, it keeps elements. Small
// floats are summed in float32 over all sources and rounded once.
#include "core/numeric.h"
#include "core/platform.h"
#include "cuda/reduction.h"

namespace ringtree {
namespace {

/// What a lane loads of a source at once: a pack, or an element where arrays are not aligned alike.
template <class Unit, class T>
inline constexpr int kElements = std::is_same_v<Unit, T> ? 1 : sizeof(Pack) / sizeof(T);
template <class T>
inline constexpr int kRegistersPerPack = kElements<Pack, T> * (sizeof(Accumulator<T>) == 8 ? 2 : 1);

/// Units of a source that a lane has under way. The sums of packs take 32 registers, the packs of two sources
/// as many; pieces in memory of the block, which come in packets, are small.
template <class Unit, Where kWhere, class T>
inline constexpr int kUnits = !std::is_same_v<Unit, Pack> ? 8
                              : kWhere == Where::anywhere ? 1
                              : kRegistersPerPack<T> <= 8 ? 4
                                                          : 2;

template <Where kWhere, class T, class Unit>
__device__ void load_unit_if(bool wanted, Unit& unit, const T* from) {
  if constexpr (std::is_same_v<Unit, Pack>)
    load_pack_if<kWhere>(wanted, unit, from);
  else if (wanted)
    unit = *from;
}

template <Where kWhere, class T, class Unit>
__device__ void store_unit(T* to, const Unit& unit) {
  if constexpr (std::is_same_v<Unit, Pack>)
    store_pack<kWhere>(to, unit);
  else
    *to = unit;
}

template <class T, class Unit>
__device__ T element(const Unit& unit, int index) {
  T value;  // NOLINT(cppcoreguidelines-pro-type-member-init): the next line writes all of it
  memcpy(&value, reinterpret_cast<const std::byte*>(&unit) + index * sizeof(T), sizeof(T));
  return value;
}

template <class T>
__device__ T finished(Accumulator<T> sum, [[maybe_unused]] int divisor) {
  if constexpr (std::is_floating_point_v<Accumulator<T>>)
    if (divisor != 1) sum /= static_cast<Accumulator<T>>(divisor);
  return narrow<T>(sum);
}

/// destination = sources[0] op sources[1] op ...
template <class T>
struct Arrays {
  T* destination;
  const void* const* sources;
  int n_sources;
  int divisor;

  __device__ const T* source(int i) const { return static_cast<const T*>(sources[i]); }
};

/// `count` units of every array, of which unit i begins at element place(i). `lane` is the place of this one
/// among those of the block.
template <class Unit, Where kWhere, class Functor, class T, class Place>
__device__ void combine_units(const Arrays<T>& arrays, std::size_t count, unsigned lane, Place place) {
  constexpr int kCount = kUnits<Unit, kWhere, T>, kEach = kElements<Unit, T>;
  const std::size_t lanes = blockDim.x;
  for (std::size_t first = lane; first < count; first += kCount * lanes) {
    const auto is_there = [&](int i) { return first + i * lanes < count; };  // the last sweep has fewer
    const auto take = [&](Unit(&units)[kCount], int source) {
      const T* const from = arrays.source(source);
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        load_unit_if<kWhere>(is_there(i), units[i], from + place(first + i * lanes));
    };
    Unit now[kCount] = {}, next[kCount] = {};
    take(now, 0);
    if (arrays.n_sources > 1) take(next, 1);
    Accumulator<T> sums[kCount][kEach];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) sums[i][j] = widen(element<T>(now[i], j));
    for (int source = 1; source < arrays.n_sources; ++source) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) now[i] = next[i];
      if (source + 1 < arrays.n_sources) take(next, source + 1);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        if (!is_there(i)) break;
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] = Functor{}(sums[i][j], widen(element<T>(now[i], j)));
      }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!is_there(i)) break;
      Unit result{};
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const T value = finished<T>(sums[i][j], arrays.divisor);
        memcpy(reinterpret_cast<std::byte*>(&result) + j * sizeof(T), &value, sizeof(T));
      }
      store_unit<kWhere>(arrays.destination + place(first + i * lanes), result);
    }
  }
}

/// Elements before the first whole pack; all of them, if the arrays are not aligned alike.
template <class T>
__device__ std::size_t unaligned(const T* destination, const void* const* sources, int n_sources,
                                 std::size_t count) {
  const auto target = reinterpret_cast<std::uintptr_t>(destination);
  std::uintptr_t skew = target % sizeof(T);
  for (int source = 0; source < n_sources; ++source)
    skew |= (reinterpret_cast<std::uintptr_t>(sources[source]) ^ target) % sizeof(Pack);
  const std::size_t head = -target % sizeof(Pack) / sizeof(T);
  return skew != 0 || head > count ? count : head;
}

__device__ bool all_global(const void* destination, const void* const* sources, int n_sources) {
  bool all = is_global(destination);
  for (int source = 0; source < n_sources; ++source) all = all && is_global(sources[source]);
  return all;
}

template <class T, class Functor>
__device__ __noinline__ void combine(void* destination, const void* const* sources, int n_sources,
                                     std::size_t count, int divisor) {
  const Arrays<T> arrays{static_cast<T*>(destination), sources, n_sources, divisor};
  constexpr std::size_t kPerPack = kElements<Pack, T>;
  const std::size_t head = unaligned(arrays.destination, sources, n_sources, count);
  const std::size_t packs = (count - head) / kPerPack, body = packs * kPerPack;
  const auto pack = [=](std::size_t i) { return head + i * kPerPack; };
  if (all_global(destination, sources, n_sources))
    combine_units<Pack, Where::global, Functor>(arrays, packs, threadIdx.x, pack);
  else
    combine_units<Pack, Where::anywhere, Functor>(arrays, packs, threadIdx.x, pack);
  // What lies around them, by the last lanes, since it is the first that may have a pack more.
  combine_units<T, Where::anywhere, Functor>(arrays, count - body, blockDim.x - 1 - threadIdx.x,
                                             [=](std::size_t i) { return i < head ? i : i + body; });
}

/// avg and premul_sum are sums by now.
template <ReduceOp op, DType dtype>
inline constexpr bool kHasLoop = supports(op, dtype) && op != ReduceOp::avg && op != ReduceOp::premul_sum;

template <DType dtype, class T>
__device__ void combine_as(ReduceOp op, void* destination, const void* const* sources, int n_sources,
                           std::size_t count, int divisor) {
  switch (op) {
#define RINGTREE_CASE(name, Functor)                                        \
  case ReduceOp::name:                                                      \
    if constexpr (kHasLoop<ReduceOp::name, dtype>)                          \
      combine<T, Functor>(destination, sources, n_sources, count, divisor); \
    return;
    RINGTREE_REDUCE_OPS(RINGTREE_CASE)
#undef RINGTREE_CASE
  }
}

template <class T>
__device__ void scale_as(void* destination, const void* source, std::size_t count, double factor) {
  if constexpr (std::is_floating_point_v<Accumulator<T>>) {
    const auto by = static_cast<Accumulator<T>>(factor);
    const std::size_t lanes = gridDim.x * static_cast<std::size_t>(blockDim.x);
    for (std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; i < count;
         i += lanes)
      static_cast<T*>(destination)[i] = narrow<T>(widen(static_cast<const T*>(source)[i]) * by);
  }
}

}  // namespace

__device__ void combine_lanes(DType dtype, ReduceOp op, int divisor, void* destination,
                              const void* const* sources, int n_sources, std::size_t count) {
  switch (dtype) {
#define RINGTREE_CASE(name, text, Storage) \
  case DType::name:                        \
    return combine_as<DType::name, Storage>(op, destination, sources, n_sources, count, divisor);
    RINGTREE_DTYPES(RINGTREE_CASE)
#undef RINGTREE_CASE
  }
}

__global__ void __launch_bounds__(512)
    scale_kernel(DType dtype, void* destination, const void* source, std::size_t count, double factor) {
  switch (dtype) {
#define RINGTREE_CASE(name, text, Storage) \
  case DType::name: return scale_as<Storage>(destination, source, count, factor);
    RINGTREE_DTYPES(RINGTREE_CASE)
#undef RINGTREE_CASE
  }
}

}  // namespace ringtree
