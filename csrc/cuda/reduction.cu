// The loops behind DeviceReduction: one for each type and operation.
//
// A lane keeps a few packs of every source in registers: it loads those of the next source while it combines
// the last one's, and stores nothing before all is combined. Small floats are summed in float32 over all
// sources and rounded once.
#include "core/numeric.h"
#include "core/platform.h"
#include "cuda/reduction.h"

namespace ringtree {
namespace {

/// Elements of a pack, and the registers that their sums take.
template <class T>
inline constexpr int kPerPack = sizeof(Pack) / sizeof(T);
template <class T>
inline constexpr int kRegistersPerPack = kPerPack<T> * (sizeof(Accumulator<T>) == 8 ? 2 : 1);

/// Packs of a source that a lane handles at once: their sums take 32 registers, the packs of two sources as
/// many.
template <class T>
inline constexpr int kPacks = kRegistersPerPack<T> <= 8 ? 4 : 2;

template <Where kWhere, int kCount, class T>
__device__ void take(Pack (&packs)[kCount], const T* from, std::size_t stride) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) packs[i] = load_pack<kWhere>(from + i * stride);
}

template <class T>
__device__ T element(const Pack& pack, int index) {
  T value;  // NOLINT(cppcoreguidelines-pro-type-member-init): the next line writes all of it
  memcpy(&value, reinterpret_cast<const std::byte*>(&pack) + index * sizeof(T), sizeof(T));
  return value;
}

template <class T>
__device__ T finished(Accumulator<T> sum, [[maybe_unused]] int divisor) {
  if constexpr (std::is_floating_point_v<Accumulator<T>>)
    if (divisor != 1) sum /= static_cast<Accumulator<T>>(divisor);
  return narrow<T>(sum);
}

/// `kCount` packs of every source, from `begin` on, `stride` elements apart.
template <Where kWhere, int kCount, class T, class Functor>
__device__ void combine_packs(T* destination, const void* const* sources, int n_sources, std::size_t begin,
                              std::size_t stride, [[maybe_unused]] int divisor) {
  const auto begin_of = [&](int source) { return static_cast<const T*>(sources[source]) + begin; };
  Pack now[kCount], next[kCount] = {};
  take<kWhere>(now, begin_of(0), stride);
  if (n_sources > 1) take<kWhere>(next, begin_of(1), stride);
  Accumulator<T> sums[kCount][kPerPack<T>];
#pragma unroll
  for (int i = 0; i < kCount; ++i)
#pragma unroll
    for (int j = 0; j < kPerPack<T>; ++j) sums[i][j] = widen(element<T>(now[i], j));
  for (int source = 1; source < n_sources; ++source) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) now[i] = next[i];
    if (source + 1 < n_sources) take<kWhere>(next, begin_of(source + 1), stride);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
#pragma unroll
      for (int j = 0; j < kPerPack<T>; ++j) sums[i][j] = Functor{}(sums[i][j], widen(element<T>(now[i], j)));
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    Pack result;  // NOLINT(cppcoreguidelines-pro-type-member-init): the loop writes all of it
#pragma unroll
    for (int j = 0; j < kPerPack<T>; ++j) {
      const T value = finished<T>(sums[i][j], divisor);
      memcpy(reinterpret_cast<std::byte*>(&result) + j * sizeof(T), &value, sizeof(T));
    }
    store_pack<kWhere>(destination + begin + i * stride, result);
  }
}

template <class T, class Functor>
__device__ void combine_each(T* destination, const void* const* sources, int n_sources, std::size_t begin,
                             std::size_t end, int divisor) {
  for (std::size_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    Accumulator<T> sum = widen(static_cast<const T*>(sources[0])[i]);
    for (int source = 1; source < n_sources; ++source)
      sum = Functor{}(sum, widen(static_cast<const T*>(sources[source])[i]));
    destination[i] = finished<T>(sum, divisor);
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
  const auto out = static_cast<T*>(destination);
  const std::size_t row = blockDim.x * static_cast<std::size_t>(kPerPack<T>);  // a pack for every lane
  const std::size_t lane = threadIdx.x * static_cast<std::size_t>(kPerPack<T>);
  std::size_t done = unaligned(out, sources, n_sources, count);
  combine_each<T, Functor>(out, sources, n_sources, 0, done, divisor);
  if (all_global(out, sources, n_sources)) {
    for (; done + row * kPacks<T> <= count; done += row * kPacks<T>)
      combine_packs<Where::global, kPacks<T>, T, Functor>(out, sources, n_sources, done + lane, row, divisor);
    for (; done + row <= count; done += row)
      combine_packs<Where::global, 1, T, Functor>(out, sources, n_sources, done + lane, row, divisor);
  } else {  // pieces in packets are small
    for (; done + row <= count; done += row)
      combine_packs<Where::anywhere, 1, T, Functor>(out, sources, n_sources, done + lane, row, divisor);
  }
  combine_each<T, Functor>(out, sources, n_sources, done, count, divisor);
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
