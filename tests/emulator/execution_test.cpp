#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "test_support.h"

namespace ringtree_emulator {
namespace {

using ExecutionTest = EmulatorTest;

__global__ void note_place(int* seen) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned lane = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  std::atomic_ref(seen[block * blockDim.x * blockDim.y * blockDim.z + lane]).fetch_add(1);
}

TEST_F(ExecutionTest, EveryLaneOfEveryBlockRunsOnceAndKnowsItsPlace) {
  const Array<int> seen(2 * 3 * 2 * 8);
  ASSERT_CUDA(cudaMemset(seen.get(), 0, 96 * sizeof(int)));
  ASSERT_CUDA(launched(note_place, dim3(2, 3, 2), dim3(2, 2, 2), nullptr, seen.get()));
  ASSERT_CUDA(cudaDeviceSynchronize());
  for (std::size_t i = 0; i < 96; ++i) EXPECT_EQ(seen[i], 1) << i;
}

// Plain memory: ThreadSanitizer would report the barrier that does not order it.
__global__ void rotate(int* values, int rounds) {
  int* const mine = values + blockIdx.x * blockDim.x;
  for (int round = 0; round < rounds; ++round) {
    const int next = mine[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
    mine[threadIdx.x] = next + 1;
    __syncthreads();
  }
}

TEST_F(ExecutionTest, ABarrierOrdersTheMemoryOfItsBlock) {
  constexpr int kBlocks = 8, kLanes = 4, kRounds = 50;
  const Array<int> values(kBlocks * kLanes);
  for (std::size_t i = 0; i < kBlocks * kLanes; ++i) values[i] = static_cast<int>(i % kLanes);
  ASSERT_CUDA(launched(rotate, kBlocks, kLanes, nullptr, values.get(), kRounds));
  ASSERT_CUDA(cudaStreamSynchronize(nullptr));
  for (int i = 0; i < kBlocks * kLanes; ++i)
    EXPECT_EQ(values[static_cast<std::size_t>(i)], (i + kRounds) % kLanes + kRounds);
}

__global__ void meet(int* arrived, int blocks) {
  if (threadIdx.x == 0) {
    std::atomic_ref(*arrived).fetch_add(1);
    while (std::atomic_ref(*arrived).load() < blocks) __nanosleep(20);
  }
  __syncthreads();
}

TEST_F(ExecutionTest, AllBlocksOfACooperativeLaunchRunAtTheSameTime) {
  const Array<int> arrived(1);
  arrived[0] = 0;
  ASSERT_CUDA(launched(meet, 64, 8, nullptr, arrived.get(), 64));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(arrived[0], 64);
}

TEST_F(ExecutionTest, KernelsOnTwoStreamsRunAtTheSameTime) {
  const Array<int> arrived(1);
  arrived[0] = 0;
  const Stream one, other;
  ASSERT_CUDA(launched(meet, 1, 2, one, arrived.get(), 2));
  ASSERT_CUDA(launched(meet, 1, 2, other, arrived.get(), 2));
  ASSERT_CUDA(cudaDeviceSynchronize());
}

TEST_F(ExecutionTest, AnOrdinaryLaunchMayHaveMoreBlocksThanTheDevice) {
  const Array<int> seen(1000);
  ASSERT_CUDA(cudaMemset(seen.get(), 0, 1000 * sizeof(int)));
  int* address = seen.get();
  void* arguments[] = {&address};
  ASSERT_CUDA(cudaLaunchKernel(note_place, 500, 2, arguments));
  ASSERT_CUDA(cudaDeviceSynchronize());
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_EQ(seen[i], 1) << i;
}

__global__ void share(std::uint32_t* found) {
  std::byte* const shared = shared_memory();
  if (threadIdx.x == 0) std::memcpy(found + blockIdx.x, shared, sizeof(std::uint32_t));
  __syncthreads();
  shared[threadIdx.x] = static_cast<std::byte>(threadIdx.x + blockIdx.x);
  __syncthreads();
  if (shared[blockDim.x - 1 - threadIdx.x] !=
      static_cast<std::byte>(blockDim.x - 1 - threadIdx.x + blockIdx.x))
    __trap();
}

TEST_F(ExecutionTest, SharedMemoryIsOfTheBlockAndPoisonedForEachBlockAnew) {
  constexpr std::size_t kBlocks = 200;
  const Array<std::uint32_t> found(kBlocks);
  std::uint32_t* address = found.get();
  void* arguments[] = {&address};
  ASSERT_CUDA(cudaLaunchKernel(share, kBlocks, 4, arguments, 4));
  ASSERT_CUDA(cudaDeviceSynchronize());
  for (std::size_t i = 0; i < kBlocks; ++i) EXPECT_EQ(found[i], 0xA5A5A5A5U);
}

struct Wide {
  std::uint64_t words[20];
};

__global__ void keep(Wide wide, std::uint64_t* sum, const Wide* const* address) {
  for (const std::uint64_t word : wide.words) *sum += word;
  if (address != nullptr && *address == &wide) __trap();
}

TEST_F(ExecutionTest, ArgumentsAreCopiedAtTheLaunch) {
  const Array<std::uint64_t> sum(1);
  sum[0] = 0;
  const Stream stream;
  std::atomic<int> gate = 0;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
  Wide wide{};
  wide.words[0] = 3;
  wide.words[19] = 4;
  std::uint64_t* target = sum.get();
  const Wide* const* none = nullptr;
  void* arguments[] = {&wide, &target, &none};
  ASSERT_CUDA(cudaLaunchCooperativeKernel(keep, 1, 1, arguments, 0, stream));
  wide = {};
  target = nullptr;
  gate = 1;
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum[0], 7U);
}

__global__ void nothing() {}

TEST_F(ExecutionTest, LaunchesThatDoNotFitAreRefused) {
  const std::uint64_t launches = statistics().launches;
  EXPECT_EQ(launched(nothing, 1, 9, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(launched(nothing, 0, 1, nullptr), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launched(nothing, 65, 1, nullptr), cudaErrorCooperativeLaunchTooLarge);
  EXPECT_EQ(launched(static_cast<void (*)()>(nullptr), 1, 1, nullptr), cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(cudaLaunchKernel(nothing, 1, 1, nullptr, std::size_t{48 << 10} + 1), cudaErrorInvalidValue);
  EXPECT_EQ(launched(nothing, 1, 1, reinterpret_cast<cudaStream_t>(0x1234)), cudaErrorInvalidResourceHandle);
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(statistics().launches, launches);
  cudaGetLastError();
}

TEST_F(ExecutionTest, MoreSharedMemoryHasToBeAskedFor) {
  EXPECT_CUDA(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10));
  EXPECT_CUDA(cudaLaunchKernel(nothing, 1, 1, nullptr, std::size_t{100 << 10}));
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
            cudaErrorInvalidValue);
  cudaFuncAttributes attributes{};
  EXPECT_CUDA(cudaFuncGetAttributes(&attributes, nothing));
  EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, 100 << 10);
  EXPECT_CUDA(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 48 << 10));
  EXPECT_CUDA(cudaDeviceSynchronize());
}

TEST_F(ExecutionTest, TheHardwareCanBeSet) {
  Hardware small = hardware();
  small.devices = 2;
  small.multiprocessors = 3;
  small.blocks_per_multiprocessor = 2;
  small.lanes_per_block = 64;
  set_hardware(small);
  int count = 0, value = 0, blocks = 0;
  EXPECT_CUDA(cudaGetDeviceCount(&count));
  EXPECT_EQ(count, 2);
  EXPECT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 1));
  EXPECT_EQ(value, 3);
  EXPECT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 64, 0));
  EXPECT_EQ(blocks, 2);
  EXPECT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 65, 0));
  EXPECT_EQ(blocks, 0);
  EXPECT_EQ(launched(nothing, 7, 1, nullptr), cudaErrorCooperativeLaunchTooLarge);
  EXPECT_CUDA(launched(nothing, 6, 64, nullptr));
  cudaDeviceProp properties{};
  EXPECT_CUDA(cudaGetDeviceProperties(&properties, 1));
  EXPECT_STREQ(properties.name, "ringtree emulated device");
  EXPECT_EQ(properties.multiProcessorCount, 3);
  char bus[16];
  EXPECT_CUDA(cudaDeviceGetPCIBusId(bus, sizeof bus, 1));
  EXPECT_STREQ(bus, "0000:02:00.0");
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_CUDA(cudaDeviceSynchronize());
  cudaGetLastError();
}

TEST_F(ExecutionTest, AKernelIsNotLaunchedOnAStreamOfAnotherDevice) {
  Hardware two = hardware();
  two.devices = 2;
  set_hardware(two);
  const Stream of_first;
  ASSERT_CUDA(cudaSetDevice(1));
  EXPECT_EQ(launched(nothing, 1, 1, of_first), cudaErrorInvalidResourceHandle);
  ASSERT_CUDA(cudaSetDevice(0));
  EXPECT_CUDA(launched(nothing, 1, 1, of_first));
  EXPECT_CUDA(cudaStreamSynchronize(of_first));
}

__global__ void sum_in_warps(int* sums, int* shared) {
  shared[threadIdx.x] = 1;
  __syncwarp();
  if (threadIdx.x % 32 != 0) return;
  for (unsigned lane = threadIdx.x; lane < threadIdx.x + 32 && lane < blockDim.x; ++lane)
    sums[threadIdx.x / 32] += shared[lane];
}

TEST_F(ExecutionTest, AWarpHasABarrierOfItsOwn) {
  Hardware wide = hardware();
  wide.lanes_per_block = 64;
  set_hardware(wide);
  const Array<int> sums(2), shared(40);
  sums[0] = sums[1] = 0;
  ASSERT_CUDA(launched(sum_in_warps, 1, 40, nullptr, sums.get(), shared.get()));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(sums[0], 32);
  EXPECT_EQ(sums[1], 8);
}

__global__ void vote(int* wrong) {
  const auto lanes = static_cast<int>(blockDim.x);
  for (int round = 0; round < 50; ++round) {
    const bool mine = static_cast<int>(threadIdx.x) < round % (lanes + 1);
    const int expected = round % (lanes + 1);
    if (__syncthreads_count(mine) != expected) *wrong = 1;
    if (__syncthreads_or(mine) != (expected > 0)) *wrong = 2;
    if (__syncthreads_and(mine) != (expected == lanes)) *wrong = 3;
  }
}

TEST_F(ExecutionTest, LanesVote) {
  const Array<int> wrong(1);
  wrong[0] = 0;
  ASSERT_CUDA(launched(vote, 4, 4, nullptr, wrong.get()));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(wrong[0], 0);
}

__global__ void fence_and_publish(int* data, int* flag) {
  if (blockIdx.x == 0) {
    *data = 42;
    __threadfence_system();
    std::atomic_ref(*flag).store(1, std::memory_order_relaxed);
  } else {
    while (std::atomic_ref(*flag).load(std::memory_order_relaxed) == 0) __nanosleep(20);
    __threadfence_system();
    if (*data != 42) __trap();
  }
}

TEST_F(ExecutionTest, AFenceOrdersMemoryAcrossBlocks) {
  const Array<int> data(1), flag(1);
  flag[0] = 0;
  ASSERT_CUDA(launched(fence_and_publish, 2, 1, nullptr, data.get(), flag.get()));
  ASSERT_CUDA(cudaDeviceSynchronize());
}

__global__ void spin(int rounds) {
  for (int round = 0; round < rounds; ++round) __syncthreads();
}

TEST_F(ExecutionTest, ThreadsAreUsedAgain) {
  for (int i = 0; i < 3; ++i) ASSERT_CUDA(launched(spin, 8, 4, nullptr, 1));
  ASSERT_CUDA(cudaDeviceSynchronize());
  const std::uint64_t threads = statistics().threads;
  for (int i = 0; i < 50; ++i) ASSERT_CUDA(launched(spin, 8, 4, nullptr, 1));
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(statistics().threads, threads);
}

TEST_F(ExecutionTest, AHundredBarriersOfEightBlocksTakeMilliseconds) {
  std::vector<double> milliseconds;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ASSERT_CUDA(launched(spin, 8, 4, nullptr, 100));
    ASSERT_CUDA(cudaDeviceSynchronize());
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  RecordProperty("median_ms", std::to_string(milliseconds[4]));
  std::printf("median %.2f ms, largest %.2f ms\n", milliseconds[4], milliseconds[8]);
  EXPECT_LT(milliseconds[4], 1000) << "barriers spin where they should sleep";
}

TEST(ExecutionDeathTest, ATrapEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        static_cast<void>(launched(+[]() { __trap(); }, 1, 1, nullptr));
        cudaDeviceSynchronize();
      },
      "__trap\\(\\) in block \\(0, 0, 0\\), thread 0");
}

TEST(ExecutionDeathTest, DeviceCodeOutsideAKernelEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(__syncthreads(), "device code called by a thread that runs no kernel");
}

#ifdef __SANITIZE_THREAD__
__global__ void forget_the_barrier(int* values) {
  values[threadIdx.x] = 1;
  values[2 + threadIdx.x] = values[1 - threadIdx.x];
}

TEST(ExecutionDeathTest, ThreadSanitizerSeesAMissingBarrier) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        const Array<int> values(4);
        static_cast<void>(launched(forget_the_barrier, 1, 2, nullptr, values.get()));
        cudaDeviceSynchronize();
        std::exit(0);
      },
      testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace ringtree_emulator
