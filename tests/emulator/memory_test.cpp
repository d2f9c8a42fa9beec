#include <cuda.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "test_support.h"

namespace ringtree_emulator {
namespace {

using MemoryTest = EmulatorTest;

TEST_F(MemoryTest, NewMemoryIsPoisoned) {
  const Array<unsigned char> memory(5000);
  for (std::size_t i = 0; i < 5000; ++i) ASSERT_EQ(memory[i], 0xA5);
}

TEST_F(MemoryTest, StatisticsCountWhatLives) {
  const Statistics before = statistics();
  {
    const Array<int> memory(100);
    const Stream stream;
    const Event event;
    void* pinned = nullptr;
    ASSERT_CUDA(cudaHostAlloc(&pinned, 30, cudaHostAllocMapped));
    const Statistics during = statistics();
    EXPECT_FALSE(during.same_lives(before));
    EXPECT_EQ(during.allocations, before.allocations + 1);
    EXPECT_EQ(during.allocated_bytes, before.allocated_bytes + 400);
    EXPECT_EQ(during.host_allocated_bytes, before.host_allocated_bytes + 30);
    EXPECT_EQ(during.streams, before.streams + 1);
    EXPECT_EQ(during.events, before.events + 1);
    ASSERT_CUDA(cudaFreeHost(pinned));
  }
  EXPECT_TRUE(statistics().same_lives(before));
}

TEST_F(MemoryTest, ADeviceRunsOutOfMemory) {
  Hardware small = hardware();
  small.memory_bytes = 10'000;
  set_hardware(small);
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_CUDA(cudaMalloc(&first, 9'000));
  EXPECT_EQ(cudaMalloc(&second, 1'001), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_CUDA(cudaFree(first));
  EXPECT_CUDA(cudaMalloc(&second, 1'001));
  EXPECT_CUDA(cudaFree(second));
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST_F(MemoryTest, WhatWasNotAllocatedIsNotFreed) {
  int value = 0;
  const Array<int> memory(10);
  EXPECT_EQ(cudaFree(&value), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(&memory[1]), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(memory.get()), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFree(nullptr));
  cudaGetLastError();
}

TEST_F(MemoryTest, CopiesGoWhereTheirKindSays) {
  const Array<int> memory(2);
  std::vector<int> host{1, 2}, back(2);
  ASSERT_CUDA(cudaMemcpy(memory.get(), host.data(), 8, cudaMemcpyHostToDevice));
  ASSERT_CUDA(cudaMemcpy(back.data(), memory.get(), 8, cudaMemcpyDefault));
  EXPECT_EQ(back, host);
  EXPECT_EQ(cudaMemcpy(back.data(), host.data(), 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(back.data(), memory.get(), 12, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(back.data(), 0, 8), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(MemoryTest, PageableMemoryMayBeReusedOnceItsCopyIsEnqueued) {
  const Array<int> memory(1);
  const Stream stream;
  std::atomic<int> gate = 0;
  ASSERT_CUDA(launched(wait_until_open, 1, 1, stream, &gate));
  int value = 7;
  ASSERT_CUDA(cudaMemcpyAsync(memory.get(), &value, sizeof value, cudaMemcpyHostToDevice, stream));
  value = 8;
  gate = 1;
  int back = 0;
  ASSERT_CUDA(cudaMemcpyAsync(&back, memory.get(), sizeof back, cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(back, 7) << "a copy to pageable memory returns when it is done";
}

TEST_F(MemoryTest, PointersAreKnown) {
  const Array<int> memory(10);
  std::vector<int> registered(10);
  int* pinned = nullptr;
  int other = 0;
  ASSERT_CUDA(cudaMallocHost(&pinned, 40));
  ASSERT_CUDA(cudaHostRegister(registered.data(), 40, cudaHostRegisterDefault));
  EXPECT_EQ(cudaHostRegister(&registered[2], 4, 0), cudaErrorHostMemoryAlreadyRegistered);
  const auto type_of = [](const void* address) {
    cudaPointerAttributes attributes{};
    EXPECT_CUDA(cudaPointerGetAttributes(&attributes, address));
    return attributes.type;
  };
  EXPECT_EQ(type_of(&memory[9]), cudaMemoryTypeDevice);
  EXPECT_EQ(type_of(&pinned[9]), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(&registered[9]), cudaMemoryTypeHost);
  EXPECT_EQ(type_of(&other), cudaMemoryTypeUnregistered);
  int* on_device = nullptr;
  EXPECT_CUDA(cudaHostGetDevicePointer(&on_device, pinned, 0));
  EXPECT_EQ(on_device, pinned);
  EXPECT_EQ(cudaHostGetDevicePointer(&on_device, &other, 0), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaHostUnregister(registered.data()));
  EXPECT_EQ(cudaHostUnregister(registered.data()), cudaErrorHostMemoryNotRegistered);
  EXPECT_CUDA(cudaFreeHost(pinned));
  cudaGetLastError();
}

TEST_F(MemoryTest, TheDriverTellsInWhichAllocationAPointerLies) {
  const Array<int> memory(10);
  using Function = CUresult (*)(CUdeviceptr*, std::size_t*, CUdeviceptr);
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult result{};
  ASSERT_CUDA(cudaGetDriverEntryPoint("cuMemGetAddressRange", &symbol, cudaEnableDefault, &result));
  ASSERT_EQ(result, cudaDriverEntryPointSuccess);
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  const auto address = reinterpret_cast<CUdeviceptr>(&memory[5]);
  EXPECT_EQ(reinterpret_cast<Function>(symbol)(&base, &bytes, address), CUDA_SUCCESS);
  EXPECT_EQ(base, reinterpret_cast<CUdeviceptr>(memory.get()));
  EXPECT_EQ(bytes, 40U);
  EXPECT_EQ(cuMemGetAddressRange(&base, &bytes, reinterpret_cast<CUdeviceptr>(&base)), CUDA_ERROR_NOT_FOUND);
  ASSERT_CUDA(cudaGetDriverEntryPoint("cuOther", &symbol, cudaEnableDefault, &result));
  EXPECT_EQ(result, cudaDriverEntryPointSymbolNotFound);
}

TEST_F(MemoryTest, PeerAccessIsEnabledOnce) {
  Hardware two = hardware();
  two.devices = 2;
  set_hardware(two);
  int can = 0;
  EXPECT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  EXPECT_EQ(can, 1);
  EXPECT_CUDA(cudaDeviceEnablePeerAccess(1, 0));
  EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice);
  cudaGetLastError();
}

TEST_F(MemoryTest, DevicesReachThoseOfTheirIsland) {
  Hardware three = hardware();
  three.devices = 3;
  three.island = 2;
  set_hardware(three);
  int can = 0;
  EXPECT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  EXPECT_EQ(can, 1);
  EXPECT_CUDA(cudaDeviceCanAccessPeer(&can, 1, 2));
  EXPECT_EQ(can, 0);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(2, 0), cudaErrorPeerAccessUnsupported);
  cudaGetLastError();
}

TEST_F(MemoryTest, AtomicOperationsReachPeersByNvlinkAlone) {
  Hardware three = hardware();
  three.devices = 3;
  three.island = 2;
  for (const int nvlink : {0, 1}) {
    three.nvlink = nvlink;
    set_hardware(three);
    int value = -1;
    EXPECT_CUDA(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 0, 1));
    EXPECT_EQ(value, 1);
    EXPECT_CUDA(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrNativeAtomicSupported, 0, 1));
    EXPECT_EQ(value, nvlink);
    EXPECT_CUDA(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrNativeAtomicSupported, 1, 2));
    EXPECT_EQ(value, 0);
    EXPECT_EQ(cudaDeviceGetP2PAttribute(&value, cudaDevP2PAttrAccessSupported, 1, 1), cudaErrorInvalidDevice);
  }
  cudaGetLastError();
}

TEST_F(MemoryTest, ABusIdNamesADeviceThatTheProcessSees) {
  Hardware two = hardware();
  two.devices = 2;
  set_hardware(two);
  char id[32];
  int device = -1;
  ASSERT_CUDA(cudaDeviceGetPCIBusId(id, sizeof id, 1));
  EXPECT_CUDA(cudaDeviceGetByPCIBusId(&device, id));
  EXPECT_EQ(device, 1);
  two.hidden = 1;  // the same machine, seen from its second device on
  set_hardware(two);
  EXPECT_CUDA(cudaDeviceGetByPCIBusId(&device, id));
  EXPECT_EQ(device, 0);
  two.hidden = 2;
  set_hardware(two);
  EXPECT_EQ(cudaDeviceGetByPCIBusId(&device, id), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceGetByPCIBusId(&device, "1"), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(MemoryTest, CallsFailAsOftenAsTestsWant) {
  fail_call("cudaMalloc", cudaErrorMemoryAllocation, 1);
  void* memory = nullptr;
  ASSERT_CUDA(cudaMalloc(&memory, 1));
  void* second = nullptr;
  EXPECT_EQ(cudaMalloc(&second, 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  break_device(cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaFree(memory), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress) << "such an error stays";
  mend();
  EXPECT_CUDA(cudaFree(memory));
  cudaGetLastError();
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(MemoryTest, AForkedChildHasNoDevice) {
  ASSERT_CUDA(cudaDeviceSynchronize());
  const pid_t child = fork();
  if (child == 0) {
    void* memory = nullptr;
    _exit(cudaMalloc(&memory, 1) == cudaErrorInitializationError ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

__global__ void write_behind(char* end) { *end = 1; }

TEST(MemoryDeathTest, AKernelThatWritesBehindItsMemoryEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const Array<char> page(4096);
        static_cast<void>(launched(write_behind, 1, 1, nullptr, page.get() + 4096));
        cudaDeviceSynchronize();
      },
      "");
}

#ifdef __SANITIZE_ADDRESS__
TEST(MemoryDeathTest, AddressSanitizerSeesTheLastByte) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const Array<char> odd(101);
        static_cast<void>(launched(write_behind, 1, 1, nullptr, odd.get() + 101));
        cudaDeviceSynchronize();
      },
      "AddressSanitizer");
}
#endif

/// What exit handlers see that are older than CUDA's, and so run after them.
[[noreturn]] void end_with_memory_of_host() {
  static unsigned char* memory = nullptr;
  std::atexit([] {
    int devices = 0;
    _exit(cudaGetDeviceCount(&devices) == cudaErrorCudartUnloading ? *memory : 1);
  });
  EXPECT_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&memory), 1 << 16, cudaHostAllocDefault));
  *memory = 0;
  std::exit(1);
}

TEST(MemoryDeathTest, OfTheHostGoesWhenTheProcessEnds) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
#ifdef __SANITIZE_ADDRESS__
  EXPECT_EXIT(end_with_memory_of_host(), testing::ExitedWithCode(0), "");
#elif defined(__SANITIZE_THREAD__)
  EXPECT_DEATH(end_with_memory_of_host(), "SEGV");
#else
  EXPECT_EXIT(end_with_memory_of_host(), testing::KilledBySignal(SIGSEGV), "");
#endif
}

}  // namespace
}  // namespace ringtree_emulator
