// What kernels use: CUDA's words for functions, the place of a lane in its launch, barriers, fences.
//
// Every lane is a thread of the operating system, so what a lane has of its own is thread_local.
#pragma once

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "runtime_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
// Empty, not an attribute: the standard library writes __attribute__((__noinline__)), and an empty list is
// one.
#define __noinline__

/// Meaningful in kernels alone.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

namespace ringtree_emulator {

/// The dynamic shared memory of the running block, of the size that its launch asked for.
std::byte* shared_memory();

void block_barrier();
/// How many lanes of the block came with true, once all have come.
int block_vote(bool mine);
void warp_barrier();
void yield_lane();
void fence();
std::uint64_t global_timer_ns();

}  // namespace ringtree_emulator

namespace ringtree {

/// What core/platform.h has for nvcc.
inline std::byte* block_memory() { return ringtree_emulator::shared_memory(); }

}  // namespace ringtree

inline void __syncthreads() { ringtree_emulator::block_barrier(); }
inline int __syncthreads_count(int mine) { return ringtree_emulator::block_vote(mine != 0); }
inline int __syncthreads_or(int mine) { return ringtree_emulator::block_vote(mine != 0) != 0 ? 1 : 0; }
inline int __syncthreads_and(int mine) { return ringtree_emulator::block_vote(mine == 0) == 0 ? 1 : 0; }
inline void __syncwarp(unsigned /*mask*/ = 0xffffffffU) { ringtree_emulator::warp_barrier(); }

/// Lanes are many and cores few: whoever naps lets another one run, for how long does not matter.
inline void __nanosleep(unsigned /*nanoseconds*/) { ringtree_emulator::yield_lane(); }

inline void __threadfence() { ringtree_emulator::fence(); }
inline void __threadfence_block() { ringtree_emulator::fence(); }
inline void __threadfence_system() { ringtree_emulator::fence(); }

inline unsigned atomicCAS(unsigned* word, unsigned expected, unsigned value) {
  __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

inline unsigned atomicAdd(unsigned* word, unsigned value) {
  return __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
}

inline long long clock64() { return static_cast<long long>(ringtree_emulator::global_timer_ns()); }

/// On a GPU the launch fails, and with it the context. Here the process ends, so that a test cannot miss it.
[[noreturn]] inline void __trap() {
  std::fprintf(stderr, "ringtree emulator: __trap() in block (%u, %u, %u), thread %u\n", blockIdx.x,
               blockIdx.y, blockIdx.z, threadIdx.x);
  std::abort();
}
