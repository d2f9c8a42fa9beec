// An array of the device as cuMemCreate and cuMemMap make them: chunks of physical memory at one range of
// addresses, any of which can be replaced.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "cuda/runtime.h"
#include "cuda/values.h"

namespace ringtree::testing {

/// What physical memory is made of, on the emulated device and on real ones.
inline constexpr std::size_t kGranule = std::size_t{2} << 20U;

class VirtualArray {
 public:
  /// Sizes of the chunks, in granules.
  explicit VirtualArray(std::vector<std::size_t> chunks,
                        CUmemAllocationHandleType type = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
      : chunks_(std::move(chunks)), type_(type), device_(current_device()) {
    check(cuMemAddressReserve(&base_, bytes(), 0, 0, 0));
    for (std::size_t i = 0; i < chunks_.size(); ++i) map(i);
  }
  VirtualArray(const VirtualArray&) = delete;
  VirtualArray& operator=(const VirtualArray&) = delete;
  ~VirtualArray() {
    cuMemUnmap(base_, bytes());
    cuMemAddressFree(base_, bytes());
  }

  std::size_t bytes() const {
    return kGranule * std::accumulate(chunks_.begin(), chunks_.end(), std::size_t{0});
  }
  std::byte* at(std::size_t offset) const {
    return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(base_)) + offset;
  }

  /// Other physical memory, at the same addresses.
  void replace(std::size_t chunk) const {
    check(cuMemUnmap(address_of(chunk), chunks_[chunk] * kGranule));
    map(chunk);
  }

  /// The memory of `chunk` once more, in place of the chunk behind it, which is as large.
  void repeat(std::size_t chunk) const {
    CUmemGenericAllocationHandle handle = 0;
    check(cuMemRetainAllocationHandle(&handle, at(address_of(chunk) - base_)));
    check(cuMemUnmap(address_of(chunk + 1), chunks_[chunk + 1] * kGranule));
    map(chunk + 1, handle);
  }

 private:
  static void check(CUresult result) {
    if (result != CUDA_SUCCESS) throw std::runtime_error("an array of chunks: " + std::to_string(result));
  }

  CUdeviceptr address_of(std::size_t chunk) const {
    return base_ + kGranule * std::accumulate(&chunks_[0], &chunks_[chunk], std::size_t{0});
  }

  void map(std::size_t chunk) const {
    const std::size_t bytes = chunks_[chunk] * kGranule;
    const CUmemAllocationProp wanted{
        CU_MEM_ALLOCATION_TYPE_PINNED, type_, {CU_MEM_LOCATION_TYPE_DEVICE, device_}, nullptr, {}};
    CUmemGenericAllocationHandle handle = 0;
    check(cuMemCreate(&handle, bytes, &wanted, 0));
    map(chunk, handle);
  }

  void map(std::size_t chunk, CUmemGenericAllocationHandle handle) const {
    const std::size_t bytes = chunks_[chunk] * kGranule;
    const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, device_}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    check(cuMemMap(address_of(chunk), bytes, 0, handle, 0));
    check(cuMemRelease(handle));  // the mapping keeps the memory
    check(cuMemSetAccess(address_of(chunk), bytes, &access, 1));
  }

  std::vector<std::size_t> chunks_;
  CUmemAllocationHandleType type_;
  int device_;
  CUdeviceptr base_ = 0;
};

}  // namespace ringtree::testing
