// All-reduces between processes that tell whether they went over the arrays themselves.
#pragma once

#include <cstddef>

#include "cuda/fabric_process.h"
#include "cuda/tasks.h"
#include "cuda/values.h"

namespace ringtree::testing {

inline constexpr std::size_t kDirectCount = 5003;

/// What rank 0 and those after it put in; `seed`: another one gives other values.
inline Values expected_of(int world, std::size_t count, int seed) {
  Values sum(count);
  for (int rank = 0; rank < world; ++rank)
    for (std::size_t i = 0; i < count; ++i) sum[i] += value_of(rank + seed, i);
  return sum;
}

/// As calls are made: over the links, if the arrays are out of reach.
inline GpuTask zero_copy_task(std::size_t count, int world) {
  GpuTask task = all_reduce_task("zero_copy", count, world);
  task.fallback = algorithm_called(Collective::all_reduce, "ring");
  return task;
}

/// Over the arrays themselves: there is a result only then.
inline GpuTask direct_task(std::size_t count, int world) {
  GpuTask task = all_reduce_task("zero_copy", count, world);
  task.fallback = algorithm_called(Collective::barrier, "one_shot");
  return task;
}

inline void put_input(const Process& self, void* in, std::size_t count, int seed) {
  const Values own = values_of(self.rank + seed, count);
  check_cuda(cudaMemcpy(in, own.data(), count * kWidth, cudaMemcpyHostToDevice), "a test");
}

inline void poison_output(void* out, std::size_t count) {
  check_cuda(cudaMemset(out, 0xEE, count * kWidth), "a test");
}

inline bool is_right(const Process& self, const void* out, std::size_t count, int seed) {
  Values result(count);
  check_cuda(cudaMemcpy(result.data(), out, count * kWidth, cudaMemcpyDeviceToHost), "a test");
  return self.fabric->fault().kind == GpuFault::none && result == expected_of(self.world, count, seed);
}

/// One call. Whether its result is right.
inline bool reduces(Process& self, const GpuTask& task, void* in, void* out, std::size_t count, int seed) {
  poison_output(out, count);
  put_input(self, in, count, seed);
  self.launch(task, in, out);
  return is_right(self, out, count, seed);
}

inline bool works(Process& self, void* in, void* out, std::size_t count = kDirectCount, int seed = 0) {
  return reduces(self, zero_copy_task(count, self.world), in, out, count, seed);
}

inline bool is_direct(Process& self, void* in, void* out, std::size_t count = kDirectCount, int seed = 0) {
  return reduces(self, direct_task(count, self.world), in, out, count, seed);
}

/// The first call tells peers of the arrays, and the second finds them mapped.
inline bool becomes_direct(Process& self, void* in, void* out, std::size_t count = kDirectCount,
                           int seed = 0) {
  return works(self, in, out, count, seed) && is_direct(self, in, out, count, seed);
}

}  // namespace ringtree::testing
