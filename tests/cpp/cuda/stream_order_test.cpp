// Calls of a rank run in the order in which they are made, whatever their streams, and no host waits for
// that.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <thread>

#include "cuda/gpu_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using StreamOrder = OnFabrics;
using ringtree_emulator::launched;
using ringtree_emulator::Stream;
using ringtree_emulator::wait_until_open;

constexpr int kWorld = 2;
constexpr std::size_t kCount = 1501;

/// The sum of all ranks' sums.
Values twice_summed() {
  Values expected = sum_of(kWorld, kCount);
  for (std::int32_t& value : expected) value *= kWorld;
  return expected;
}

TEST_F(StreamOrder, HoldsACallBackUntilTheOneOnAnotherStreamIsOver) {
  const Buffers in(kWorld, kCount * kWidth), sum(kWorld, kCount * kWidth), again(kWorld, kCount * kWidth);
  for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
  std::atomic<int> gate = 0;
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const int rank = self.rank();
    const GpuTask task = all_reduce_task("two_shot", kCount, kWorld);
    const Stream first, second;
    EXPECT_EQ(launched(wait_until_open, 1, 1, first, &gate), cudaSuccess);
    EXPECT_TRUE(self.launch(task, in.at(rank), sum.at(rank), first));
    EXPECT_TRUE(self.launch(task, sum.at(rank), again.at(rank), second));
    EXPECT_EQ(self.gpu().progress().begun, 0U) << "the second call has overtaken the first";
    EXPECT_EQ(cudaStreamQuery(second), cudaErrorNotReady);
    self.come();
    gate = 1;
    self.expect_success();
  });
  for (int rank = 0; rank < kWorld; ++rank) EXPECT_EQ(again.get<std::int32_t>(rank), twice_summed());
}

TEST_F(StreamOrder, OutlivesTheStreamOfTheLastCall) {
  const Buffers in(kWorld, kCount * kWidth), sum(kWorld, kCount * kWidth), again(kWorld, kCount * kWidth);
  for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
  std::atomic<int> gate = 0;
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const int rank = self.rank();
    const GpuTask task = all_reduce_task("ring", kCount, kWorld);
    {
      const Stream first;
      EXPECT_EQ(launched(wait_until_open, 1, 1, first, &gate), cudaSuccess);
      self.launch(task, in.at(rank), sum.at(rank), first);
    }
    const Stream second;
    self.launch(task, sum.at(rank), again.at(rank), second);
    EXPECT_EQ(self.gpu().progress().begun, 0U);
    self.come();
    gate = 1;
    self.expect_success();
  });
  for (int rank = 0; rank < kWorld; ++rank) EXPECT_EQ(again.get<std::int32_t>(rank), twice_summed());
}

TEST_F(StreamOrder, TellsThePerThreadStreamsOfTwoThreadsApart) {
  const Buffers in(kWorld, kCount * kWidth), sum(kWorld, kCount * kWidth), again(kWorld, kCount * kWidth);
  for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
  std::atomic<int> gate = 0;
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const int rank = self.rank();
    const GpuTask task = all_reduce_task("one_shot", kCount, kWorld);
    EXPECT_EQ(launched(wait_until_open, 1, 1, cudaStreamPerThread, &gate), cudaSuccess);
    self.launch(task, in.at(rank), sum.at(rank), cudaStreamPerThread);
    std::thread([&] {
      self.launch(task, sum.at(rank), again.at(rank), cudaStreamPerThread);
      EXPECT_EQ(self.gpu().progress().begun, 0U);
      self.come();
      gate = 1;
      EXPECT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
    }).join();
    self.expect_success();
  });
  for (int rank = 0; rank < kWorld; ++rank) EXPECT_EQ(again.get<std::int32_t>(rank), twice_summed());
}

}  // namespace
}  // namespace ringtree::testing
