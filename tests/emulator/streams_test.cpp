#include <set>
#include <thread>
#include <vector>

#include "test_support.h"

namespace ringtree_emulator {
namespace {

using StreamsTest = EmulatorTest;

struct Log {
  Log() { length[0] = 0; }
  std::vector<int> all() const { return {entries.get(), entries.get() + length[0]}; }

  Array<int> entries{1000};
  Array<int> length{1};
};

TEST_F(StreamsTest, AStreamDoesItsWorkInOrder) {
  const Log log;
  const Stream stream;
  std::vector<int> expected;
  for (int i = 0; i < 100; ++i) {
    ASSERT_CUDA(launched(append, 1, 1, stream, log.entries.get(), log.length.get(), i));
    expected.push_back(i);
  }
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(log.all(), expected);
}

TEST_F(StreamsTest, AFullQueueHoldsUpWhoAddsToIt) {
  constexpr int kAll = 1100, kFull = 1 + 1024;  // the kernel that runs, and those that wait for it
  const Array<int> sum(1);
  sum[0] = 0;
  const Stream stream;
  std::atomic<int> gate = 0, made = 0;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
  ++made;
  std::thread adding([&] {
    while (made < kAll) {
      EXPECT_CUDA(launched(add, 1, 1, stream, sum.get(), 1));
      ++made;
    }
  });
  while (made < kFull - 1) std::this_thread::yield();
  EXPECT_LE(made, kFull);
  gate = 1;
  adding.join();
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum[0], kAll - 1);
}

TEST_F(StreamsTest, NoTwoStreamsHaveTheSameNumber) {
  std::set<unsigned long long> numbers;
  for (int i = 0; i < 10; ++i) {
    const Stream stream;
    unsigned long long number = 0;
    ASSERT_CUDA(cudaStreamGetId(stream, &number));
    EXPECT_TRUE(numbers.insert(number).second);
  }
}

TEST_F(StreamsTest, CopiesFillsAndKernelsAreInOneOrder) {
  const Stream stream;
  const Array<int> values(2);
  int* pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(&pinned, 2 * sizeof(int)));
  ASSERT_CUDA(cudaMemsetAsync(values.get(), 0, 2 * sizeof(int), stream));
  ASSERT_CUDA(launched(add, 1, 1, stream, values.get(), 5));
  ASSERT_CUDA(cudaMemcpyAsync(&values[1], &values[0], sizeof(int), cudaMemcpyDeviceToDevice, stream));
  ASSERT_CUDA(launched(add, 1, 1, stream, values.get(), 5));
  ASSERT_CUDA(cudaMemcpyAsync(pinned, values.get(), 2 * sizeof(int), cudaMemcpyDeviceToHost, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(pinned[0], 10);
  EXPECT_EQ(pinned[1], 5);
  EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(StreamsTest, AnEventOrdersTwoStreams) {
  const Log log;
  const Stream first, second;
  const Event event;
  std::atomic<int> gate = 0;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, first, &gate));
  ASSERT_CUDA(launched(append, 1, 1, first, log.entries.get(), log.length.get(), 1));
  ASSERT_CUDA(cudaEventRecord(event, first));
  ASSERT_CUDA(cudaStreamWaitEvent(second, event));
  ASSERT_CUDA(launched(append, 1, 1, second, log.entries.get(), log.length.get(), 2));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(second), cudaErrorNotReady);
  gate = 1;
  ASSERT_CUDA(cudaStreamSynchronize(second));
  EXPECT_EQ(log.all(), (std::vector{1, 2}));
  EXPECT_CUDA(cudaEventQuery(event));
  EXPECT_CUDA(cudaStreamQuery(second));
  cudaGetLastError();
}

TEST_F(StreamsTest, AWaitIsForTheRecordingBeforeIt) {
  const Stream busy, other;
  const Event event;
  std::atomic<int> gate = 0;
  ASSERT_CUDA(cudaEventRecord(event, other));
  ASSERT_CUDA(cudaStreamWaitEvent(other, event));
  ASSERT_CUDA(launched(wait_until_open, 1, 1, busy, &gate));
  ASSERT_CUDA(cudaEventRecord(event, busy));
  ASSERT_CUDA(cudaStreamSynchronize(other));
  gate = 1;
  ASSERT_CUDA(cudaEventSynchronize(event));
}

TEST_F(StreamsTest, AnEventThatWasNeverRecordedIsOver) {
  const Stream stream;
  const Event event;
  EXPECT_CUDA(cudaEventQuery(event));
  EXPECT_CUDA(cudaEventSynchronize(event));
  EXPECT_CUDA(cudaStreamWaitEvent(stream, event));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
}

TEST_F(StreamsTest, TimeBetweenEventsIsThatOfTheStream) {
  const Stream stream;
  const Event start, end;
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  ASSERT_CUDA(cudaEventRecord(start, stream));
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream, [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }, nullptr));
  ASSERT_CUDA(cudaEventRecord(end, stream));
  ASSERT_CUDA(cudaEventSynchronize(end));
  ASSERT_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  EXPECT_GE(milliseconds, 19.F);
  cudaGetLastError();
}

TEST_F(StreamsTest, WorkOfADestroyedStreamIsStillDone) {
  const Array<int> sum(1);
  sum[0] = 0;
  std::atomic<int> gate = 0;
  std::atomic<bool> over = false;
  {
    const Stream stream;
    ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
    ASSERT_CUDA(launched(add, 1, 1, stream, sum.get(), 5));
    ASSERT_CUDA(
        cudaLaunchHostFunc(stream, [](void* data) { *static_cast<std::atomic<bool>*>(data) = true; }, &over));
  }
  gate = 1;
  while (!over) std::this_thread::yield();
  EXPECT_EQ(sum[0], 5);
}

TEST_F(StreamsTest, MemoryOfAStreamIsFreedInItsOrder) {
  const Array<int> sum(1);
  sum[0] = 0;
  const Stream stream;
  std::atomic<int> gate = 0;
  int* memory = nullptr;
  const std::size_t before = statistics().allocations;
  ASSERT_CUDA(cudaMallocAsync(&memory, sizeof(int), stream));
  ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
  ASSERT_CUDA(cudaMemsetAsync(memory, 0, sizeof(int), stream));
  ASSERT_CUDA(launched(add, 1, 1, stream, memory, 6));
  ASSERT_CUDA(cudaMemcpyAsync(sum.get(), memory, sizeof(int), cudaMemcpyDefault, stream));
  ASSERT_CUDA(cudaFreeAsync(memory, stream));
  EXPECT_EQ(statistics().allocations, before + 1);
  cudaIpcMemHandle_t handle{};
  EXPECT_EQ(cudaIpcGetMemHandle(&handle, memory), cudaErrorInvalidValue) << "as in CUDA";
  gate = 1;
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum[0], 6);
  EXPECT_EQ(statistics().allocations, before);
  EXPECT_EQ(cudaFreeAsync(memory, stream), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(StreamsTest, AFunctionOfTheHostRunsInOrderAndMayNotCallCuda) {
  const Stream stream;
  std::atomic<int> gate = 0;
  cudaError_t inside = cudaSuccess;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream, [](void* data) { *static_cast<cudaError_t*>(data) = cudaStreamQuery(nullptr); }, &inside));
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  gate = 1;
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(inside, cudaErrorNotPermitted);
  cudaGetLastError();
}

TEST_F(StreamsTest, DefaultStreamsExistAndAThreadHasItsOwn) {
  const Array<int> sum(1);
  sum[0] = 0;
  std::atomic<int> gate = 0;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, cudaStreamPerThread, &gate));
  std::thread([&] {
    ASSERT_CUDA(launched(add, 1, 1, cudaStreamPerThread, sum.get(), 1));
    ASSERT_CUDA(cudaStreamSynchronize(cudaStreamPerThread));
  }).join();
  EXPECT_EQ(sum[0], 1);
  ASSERT_CUDA(launched(add, 1, 1, cudaStreamLegacy, sum.get(), 1));
  ASSERT_CUDA(cudaStreamSynchronize(nullptr));
  EXPECT_EQ(sum[0], 2);
  gate = 1;
  ASSERT_CUDA(cudaDeviceSynchronize());
}

TEST_F(StreamsTest, StreamsAreUsedByManyThreadsAtOnce) {
  const Array<int> sums(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 8; ++i)
    threads.emplace_back([&sums, i] {
      const Stream stream;
      const Event event;
      ASSERT_CUDA(cudaMemsetAsync(&sums[i], 0, sizeof(int), stream));
      for (int round = 0; round < 20; ++round) {
        ASSERT_CUDA(launched(add, 1, 1, stream, &sums[i], 1));
        ASSERT_CUDA(cudaEventRecord(event, stream));
      }
      ASSERT_CUDA(cudaEventSynchronize(event));
      EXPECT_EQ(sums[i], 20);
    });
  for (std::thread& thread : threads) thread.join();
}

TEST_F(StreamsTest, UnknownHandlesAreErrors) {
  const auto stream = reinterpret_cast<cudaStream_t>(0x5000);
  const auto event = reinterpret_cast<cudaEvent_t>(0x5000);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_STREQ(cudaGetErrorName(cudaGetLastError()), "cudaErrorInvalidResourceHandle");
}

}  // namespace
}  // namespace ringtree_emulator
