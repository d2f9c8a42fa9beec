// How the host learns that kernels begin and end.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gpu.h"
#include "core/platform.h"
#include "cuda/block.h"
#include "cuda/state.h"

namespace ringtree {

/// By one block of a kernel.
__device__ inline void tell_begin(DeviceRank& rank, std::uint64_t sequence) {
  if (threadIdx.x != 0) return;
  DeviceReport& report = rank.host->report;
  AtomicRef(report.newest).store(sequence, relaxed);
  const std::uint64_t number = rank.kernels + 1;
  AtomicRef(rank.kernels).store(number, relaxed);
  AtomicRef(report.begun).store(number, release);  // pairs with: the host's load
}

__device__ inline void raise_to(std::uint64_t& word, std::uint64_t value) {
  const AtomicRef<std::uint64_t> known(word);
  if (known.load(relaxed) < value) known.store(value, relaxed);
}

/// By each of a rank's `blocks`: the last one tells that the kernel is over, and whether the call has been
/// made.
__device__ inline void tell_end(Block& team, DeviceRank& rank, std::uint64_t sequence, bool is_made,
                                unsigned blocks) {
  team.sync();
  if (threadIdx.x != 0) return;
  if (team.gave_up()) AtomicRef(rank.has_failed).store(1U, relaxed);
  __threadfence();  // what this block has written is there before it is counted
  if (atomicAdd(&rank.ended_blocks, 1U) + 1 != blocks) return;
  __threadfence();  // and this lane sees what was there before the others were
  rank.ended_blocks = 0;
  DeviceReport& report = rank.host->report;
  const bool is_message = (sequence & kGpuMessage) != 0;
  if (is_made) raise_to(is_message ? report.finished_messages : report.finished, sequence);
  if (!is_message) {
    const AtomicRef<std::uint64_t> together(report.ended_together);
    together.store(together.load(relaxed) + 1, relaxed);
  }
  AtomicRef(report.ended)
      .store(AtomicRef(rank.kernels).load(relaxed), release);  // pairs with: the host's load
}

}  // namespace ringtree
