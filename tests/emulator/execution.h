// How a launch runs: every lane of every resident block is a thread.
#pragma once

#include "emulator.h"
#include "launch.h"

namespace ringtree_emulator {

/// Runs all blocks and returns after the last. Called by the thread of a stream.
void run(const Launch& launch, int device);

/// Why `launch` is refused, or cudaSuccess.
cudaError_t check(const Launch& launch);

void count_execution(Statistics& statistics);

}  // namespace ringtree_emulator
