// Freed arrays serve the next one, and not while anybody still uses them.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>

#include "cuda/gpu_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using FreedArrays = OnFabrics;
using ringtree_emulator::launched;
using ringtree_emulator::Stream;
using ringtree_emulator::wait_until_open;
using Array = std::shared_ptr<std::byte>;

constexpr int kWorld = 2;
constexpr std::size_t kCount = 1501, kBytes = kCount * kWidth;

Array new_array() { return ringtree_gpu_library()->allocate(kBytes); }

/// Whether the next array has the memory of one that was there.
bool is_served(const std::byte* memory) { return new_array().get() == memory; }

TEST_F(FreedArrays, ServeTheNextOne) {
  Array array = new_array();
  const std::byte* const memory = array.get();
  array.reset();
  EXPECT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
  EXPECT_TRUE(is_served(memory));
}

TEST_F(FreedArrays, ComeAndGoWhileAStreamIsCaptured) {
  new_array();
  const Stream stream;
  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  {
    const Array kept = new_array(), made = new_array();
  }
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(FreedArrays, OfAGraphServeNobody) {
  Array array = new_array();
  std::byte* const memory = array.get();
  EXPECT_EQ(cudaStreamBeginCapture(cudaStreamPerThread, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(memory, 1, kBytes, cudaStreamPerThread), cudaSuccess);
  array.reset();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(cudaStreamPerThread, &graph), cudaSuccess);
  EXPECT_FALSE(is_served(memory));
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(FreedArrays, WaitForWhatTheirThreadHasEnqueued) {
  std::atomic<int> gate = 0;
  Array array = new_array();
  const std::byte* const memory = array.get();
  EXPECT_EQ(launched(wait_until_open, 1, 1, cudaStreamPerThread, &gate), cudaSuccess);
  array.reset();
  EXPECT_FALSE(is_served(memory));
  gate = 1;
  EXPECT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
}

TEST_F(FreedArrays, WaitForCallsOnWhateverStream) {
  const Buffers in(kWorld, kBytes);
  for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
  std::atomic<int> gate = 0;
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const Stream stream;
    Array out = new_array();
    const std::byte* const memory = out.get();
    EXPECT_EQ(launched(wait_until_open, 1, 1, stream, &gate), cudaSuccess);
    self.launch(all_reduce_task("ring", kCount, kWorld), in.at(self.rank()), out.get(), stream);
    std::thread([&] { out.reset(); }).join();
    EXPECT_FALSE(is_served(memory));
    self.come();
    gate = 1;
    self.expect_success();
  });
}

TEST_F(FreedArrays, DoNotWaitForLaterCalls) {
  const Buffers in(kWorld, kBytes), out(kWorld, kBytes);
  std::atomic<int> gate = 0;
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const int rank = self.rank();
    const GpuTask task = all_reduce_task("ring", kCount, kWorld);
    const Stream stream;
    Array array = new_array();
    const std::byte* const memory = array.get();
    self.launch(task, in.at(rank), out.at(rank), stream);
    array.reset();
    self.expect_success();
    EXPECT_EQ(launched(wait_until_open, 1, 1, stream, &gate), cudaSuccess);
    self.launch(task, in.at(rank), out.at(rank), stream);
    self.come();
    if (rank == 0) {
      const Array one = new_array(), other = new_array();
      EXPECT_TRUE(one.get() == memory || other.get() == memory) << "the other rank has freed one, too";
    }
    self.come();
    gate = 1;
    self.expect_success();
  });
}

}  // namespace
}  // namespace ringtree::testing
