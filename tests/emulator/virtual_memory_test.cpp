#include <cuda.h>
#include <fcntl.h>
#include <unistd.h>

#include <numeric>
#include <vector>

#include "device_limits.h"
#include "test_support.h"

namespace ringtree_emulator {
namespace {

#define EXPECT_DRIVER(call) EXPECT_EQ(call, CUDA_SUCCESS)
#define ASSERT_DRIVER(call) ASSERT_EQ(call, CUDA_SUCCESS)

constexpr CUmemAllocationHandleType kShared = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
constexpr std::size_t kTwoChunks = 2 * kGranularity;

CUmemAllocationProp properties(CUmemAllocationHandleType type = kShared) {
  return {CU_MEM_ALLOCATION_TYPE_PINNED, type, {CU_MEM_LOCATION_TYPE_DEVICE, 0}, nullptr, {}};
}

CUmemGenericAllocationHandle created(CUmemAllocationHandleType type = kShared) {
  CUmemGenericAllocationHandle handle = 0;
  const CUmemAllocationProp wanted = properties(type);
  EXPECT_DRIVER(cuMemCreate(&handle, kGranularity, &wanted, 0));
  return handle;
}

CUresult allow(CUdeviceptr address, std::size_t bytes,
               CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
  const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, 0}, flags};
  return cuMemSetAccess(address, bytes, &access, 1);
}

int* pointer(CUdeviceptr address) { return reinterpret_cast<int*>(static_cast<std::uintptr_t>(address)); }

/// Each with two chunks of addresses.
class VirtualMemoryTest : public EmulatorTest {
 protected:
  void SetUp() override {
    EmulatorTest::SetUp();
    ASSERT_DRIVER(cuMemAddressReserve(&base_, kTwoChunks, 0, 0, 0));
  }
  void TearDown() override {
    EXPECT_DRIVER(cuMemAddressFree(base_, kTwoChunks));
    EmulatorTest::TearDown();
  }

  CUdeviceptr second() const { return base_ + kGranularity; }
  /// New memory, of which the mapping has the last reference.
  static void map(CUdeviceptr address) {
    const CUmemGenericAllocationHandle handle = created();
    EXPECT_DRIVER(cuMemMap(address, kGranularity, 0, handle, 0));
    EXPECT_DRIVER(cuMemRelease(handle));
  }

  CUdeviceptr base_ = 0;
};

TEST_F(VirtualMemoryTest, CopiesGoOverChunksThatLieOneBehindTheOther) {
  map(base_);
  map(second());
  ASSERT_DRIVER(allow(base_, kTwoChunks));
  std::vector<int> values(100), back(100);
  std::iota(values.begin(), values.end(), 1);
  int* const across = pointer(second()) - 50;
  EXPECT_EQ(*across, static_cast<int>(0xA5A5A5A5)) << "new memory is poisoned";
  EXPECT_CUDA(cudaMemcpy(across, values.data(), 400, cudaMemcpyHostToDevice));
  EXPECT_CUDA(cudaMemcpy(back.data(), across, 400, cudaMemcpyDeviceToHost));
  EXPECT_EQ(back, values);
  EXPECT_EQ(cudaMemset(pointer(second()), 0, kGranularity + 1), cudaErrorInvalidValue);
  EXPECT_DRIVER(cuMemUnmap(second(), kGranularity));
  EXPECT_EQ(cudaMemset(across, 0, 400), cudaErrorInvalidValue) << "its end is gone";
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
  cudaGetLastError();
}

TEST_F(VirtualMemoryTest, WhatHasNoAccessIsNotTouched) {
  map(base_);
  EXPECT_EQ(cudaMemset(pointer(base_), 0, 4), cudaErrorInvalidValue);
  ASSERT_DRIVER(allow(base_, kGranularity));
  EXPECT_CUDA(cudaMemset(pointer(base_), 0, 4));
  ASSERT_DRIVER(allow(base_, kGranularity, CU_MEM_ACCESS_FLAGS_PROT_NONE));
  EXPECT_EQ(cudaMemset(pointer(base_), 0, 4), cudaErrorInvalidValue);
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
  cudaGetLastError();
}

TEST_F(VirtualMemoryTest, SizesAreMultiplesAndRangesAreWhole) {
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr other = 0;
  const CUmemAllocationProp wanted = properties();
  EXPECT_EQ(cuMemCreate(&handle, kGranularity + 1, &wanted, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemAddressReserve(&other, 4096, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
  handle = created();
  EXPECT_EQ(cuMemMap(base_ + 4096, kGranularity, 0, handle, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemMap(base_, kTwoChunks, 0, handle, 0), CUDA_ERROR_INVALID_VALUE) << "more than it has";
  EXPECT_EQ(cuMemMap(base_ + kTwoChunks, kGranularity, 0, handle, 0), CUDA_ERROR_INVALID_VALUE);
  ASSERT_DRIVER(cuMemMap(base_, kGranularity, 0, handle, 0));
  EXPECT_EQ(cuMemMap(base_, kGranularity, 0, handle, 0), CUDA_ERROR_INVALID_VALUE) << "mapped already";
  EXPECT_EQ(allow(base_, kTwoChunks), CUDA_ERROR_INVALID_VALUE) << "half of it is mapped";
  EXPECT_EQ(cuMemUnmap(base_, kTwoChunks), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemAddressFree(base_, kTwoChunks), CUDA_ERROR_INVALID_VALUE) << "mapped yet";
  ASSERT_DRIVER(cuMemMap(second(), kGranularity, 0, handle, 0)) << "the same memory twice";
  EXPECT_DRIVER(allow(base_, kTwoChunks));
  *pointer(base_) = 7;
  EXPECT_EQ(*pointer(second()), 7);
  EXPECT_DRIVER(cuMemUnmap(base_, kTwoChunks));
  EXPECT_DRIVER(cuMemRelease(handle));
  EXPECT_EQ(cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(VirtualMemoryTest, MemoryLivesAsLongAsAReferenceOrAMapping) {
  const Statistics before = statistics();
  map(base_);
  EXPECT_EQ(statistics().memory_handles, before.memory_handles);
  EXPECT_EQ(statistics().mapped_chunks, before.mapped_chunks + 1);
  CUmemGenericAllocationHandle handle = 0, other = 0;
  ASSERT_DRIVER(cuMemRetainAllocationHandle(&handle, pointer(base_) + 9));
  EXPECT_EQ(statistics().memory_handles, before.memory_handles + 1);
  ASSERT_DRIVER(allow(base_, kGranularity));
  *pointer(base_) = 7;
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
  EXPECT_EQ(cuMemRetainAllocationHandle(&other, pointer(base_)), CUDA_ERROR_INVALID_VALUE);
  ASSERT_DRIVER(cuMemMap(second(), kGranularity, 0, handle, 0));
  ASSERT_DRIVER(allow(second(), kGranularity));
  EXPECT_EQ(*pointer(second()), 7);
  EXPECT_DRIVER(cuMemUnmap(second(), kGranularity));
  EXPECT_DRIVER(cuMemRelease(handle));
  EXPECT_TRUE(statistics().same_lives(before));
}

// So that a test sees who takes new memory for what was there before.
TEST_F(VirtualMemoryTest, AHandleThatIsFreeIsGivenAgain) {
  const CUmemGenericAllocationHandle handle = created();
  EXPECT_DRIVER(cuMemRelease(handle));
  EXPECT_EQ(created(), handle);
  EXPECT_NE(created(), handle);
  EXPECT_DRIVER(cuMemRelease(handle));
  EXPECT_DRIVER(cuMemRelease(handle + 1));
}

TEST_F(VirtualMemoryTest, ADescriptorStandsForTheSameMemory) {
  map(base_);
  ASSERT_DRIVER(allow(base_, kGranularity));
  *pointer(base_) = 7;
  CUmemGenericAllocationHandle handle = 0, again = 0;
  ASSERT_DRIVER(cuMemRetainAllocationHandle(&handle, pointer(base_)));
  int descriptor = -1;
  ASSERT_DRIVER(cuMemExportToShareableHandle(&descriptor, handle, kShared, 0));
  auto* const shared = reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor));
  ASSERT_DRIVER(cuMemImportFromShareableHandle(&again, shared, kShared));
  close(descriptor);
  ASSERT_DRIVER(cuMemMap(second(), kGranularity, 0, again, 0));
  ASSERT_DRIVER(allow(second(), kGranularity));
  EXPECT_EQ(*pointer(second()), 7);
  EXPECT_DRIVER(cuMemUnmap(base_, kTwoChunks));
  EXPECT_DRIVER(cuMemRelease(handle));
  EXPECT_DRIVER(cuMemRelease(again));
}

TEST_F(VirtualMemoryTest, OnlyWhatWasMadeForItIsExportedAndOnlyThatIsImported) {
  const CUmemGenericAllocationHandle own = created(CU_MEM_HANDLE_TYPE_NONE);
  CUmemGenericAllocationHandle other = 0;
  int descriptor = -1;
  EXPECT_EQ(cuMemExportToShareableHandle(&descriptor, own, kShared, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_DRIVER(cuMemRelease(own));
  const int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  auto* const shared = reinterpret_cast<void*>(static_cast<std::intptr_t>(file));
  EXPECT_EQ(cuMemImportFromShareableHandle(&other, shared, kShared), CUDA_ERROR_INVALID_VALUE);
  close(file);
  const CUmemAllocationProp wanted = properties(CU_MEM_HANDLE_TYPE_FABRIC);
  EXPECT_EQ(cuMemCreate(&other, kGranularity, &wanted, 0), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(VirtualMemoryTest, ADeviceUsesMemoryThatItReaches) {
  Hardware apart = hardware();
  apart.devices = 2;
  apart.island = 1;
  set_hardware(apart);
  map(base_);
  const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, 1}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  EXPECT_EQ(cuMemSetAccess(base_, kGranularity, &access, 1), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
}

TEST_F(VirtualMemoryTest, ChunksAreMemoryOfTheirDevice) {
  Hardware small = hardware();
  small.memory_bytes = kTwoChunks - 1;
  set_hardware(small);
  map(base_);
  CUmemGenericAllocationHandle handle = 0;
  const CUmemAllocationProp wanted = properties();
  EXPECT_EQ(cuMemCreate(&handle, kGranularity, &wanted, 0), CUDA_ERROR_OUT_OF_MEMORY);
  CUdeviceptr begin = 0;
  std::size_t bytes = 0;
  EXPECT_DRIVER(cuMemGetAddressRange(&begin, &bytes, base_ + 5));
  EXPECT_EQ(begin, base_);
  EXPECT_EQ(bytes, kGranularity);
  int has_legacy_handle = 1;
  EXPECT_DRIVER(
      cuPointerGetAttribute(&has_legacy_handle, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, base_));
  EXPECT_EQ(has_legacy_handle, 0);
  cudaIpcMemHandle_t legacy{};
  EXPECT_EQ(cudaIpcGetMemHandle(&legacy, pointer(base_)), cudaErrorInvalidValue);
  cudaPointerAttributes attributes{};
  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, pointer(base_)));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
  cudaGetLastError();
}

TEST_F(VirtualMemoryTest, MappingsEndACaptureThatForbidsThem) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  EXPECT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  map(base_);
  EXPECT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  EXPECT_EQ(allow(base_, kGranularity), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_DRIVER(cuMemUnmap(base_, kGranularity));
  cudaGetLastError();
}

__global__ void write_one(int* target) { *target = 1; }

TEST(VirtualMemoryDeathTest, AKernelThatWritesWhereItHasNoAccessEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        CUdeviceptr base = 0;
        EXPECT_DRIVER(cuMemAddressReserve(&base, kGranularity, 0, 0, 0));
        EXPECT_DRIVER(cuMemMap(base, kGranularity, 0, created(), 0));
        static_cast<void>(launched(write_one, 1, 1, nullptr, pointer(base)));
        cudaDeviceSynchronize();
      },
      "");
}

}  // namespace
}  // namespace ringtree_emulator
