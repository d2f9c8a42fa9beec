// How the host learns that kernels begin and end.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/gpu.h"
#include "core/platform.h"
#include "cuda/block.h"
#include "cuda/state.h"

namespace ringtree {

/// By one block of a kernel. Nothing waits for the host's memory: one store says both.
__device__ inline void tell_begin(DeviceRank& rank, std::uint64_t sequence) {
  if (threadIdx.x != 0) return;
  const std::uint64_t number = rank.kernels + 1;
  rank.kernels = number;
  store_pair(&rank.host->report.begun, number, sequence);
}

/// By each of a rank's `blocks`: the last one tells that the kernel is over, and whether the call has been
/// made.
__device__ inline void tell_end(Block& team, DeviceRank& rank, std::uint64_t sequence, bool is_made,
                                unsigned blocks) {
  team.sync();
  if (threadIdx.x != 0) return;
  if (team.gave_up()) AtomicRef(rank.has_failed).store(1U, relaxed);
  if (blocks > 1) {
    __threadfence();  // what this block has written is there before it is counted
    if (atomicAdd(&rank.ended_blocks, 1U) + 1 != blocks) return;
    __threadfence();  // and this lane sees what was there before the others were
    rank.ended_blocks = 0;
  }
  DeviceReport& report = rank.host->report;
  const bool is_message = (sequence & kGpuMessage) != 0;
  std::uint64_t& finished = is_message ? rank.finished_messages : rank.finished;
  if (is_made && finished < sequence) {
    finished = sequence;
    AtomicRef(is_message ? report.finished_messages : report.finished).store(sequence, relaxed);
  }
  if (!is_message) AtomicRef(report.ended_together).store(++rank.ended_together, relaxed);
  AtomicRef(report.ended).store(rank.kernels, release);  // pairs with: the host's load
}

}  // namespace ringtree
