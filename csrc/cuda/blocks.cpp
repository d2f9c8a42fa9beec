#include "cuda/blocks.h"

#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/platform.h"

namespace ringtree {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(GpuBlockTable::Entry::handle));

template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  check_cuda(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result), name);
  return reinterpret_cast<Function*>(found);
}

/// An allocation. Another one may begin at the same address later; it has another identity.
struct Allocation {
  std::uintptr_t base;
  std::uint64_t identity;
};

std::optional<Allocation> allocation_of(const void* memory) {
  static const auto address_range = driver_function<decltype(cuMemGetAddressRange)>("cuMemGetAddressRange");
  static const auto attribute = driver_function<decltype(cuPointerGetAttribute)>("cuPointerGetAttribute");
  if (memory == nullptr || address_range == nullptr || attribute == nullptr) return std::nullopt;
  const auto address = static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(memory));
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  unsigned long long identity = 0;
  if (address_range(&base, &bytes, address) != CUDA_SUCCESS || bytes < kSmallestMappedBytes)
    return std::nullopt;
  if (attribute(&identity, CU_POINTER_ATTRIBUTE_BUFFER_ID, address) != CUDA_SUCCESS) return std::nullopt;
  return Allocation{static_cast<std::uintptr_t>(base), identity};
}

}  // namespace

SharedBlocks::SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near, HostShare& own)
    : tables_(tables),
      rank_(static_cast<std::size_t>(rank)),
      is_near_(std::move(is_near)),
      own_(&own),
      mapped_(is_near_.size()) {}

void SharedBlocks::describe(DeviceOffer& offer) {
  offer.in_place = place_of(offer.in);
  offer.out_place = offer.out == offer.in ? offer.in_place : place_of(offer.out);
  for (std::size_t peer = 0; peer < is_near_.size(); ++peer) {
    if (!is_near_[peer]) map_what_is_new(peer);
    offer.known[peer] = static_cast<std::uint32_t>(mapped_[peer].size());
  }
}

BufferPlace SharedBlocks::place_of(const void* memory) {
  const std::optional<Allocation> allocation = allocation_of(memory);
  if (!allocation) return {0, 0};
  return {reinterpret_cast<std::uintptr_t>(memory) - allocation->base,
          number_of(allocation->base, allocation->identity)};
}

std::uint32_t SharedBlocks::number_of(std::uintptr_t base, std::uint64_t identity) {
  const auto [found, is_new] = numbers_.try_emplace(identity, 0);
  GpuBlockTable& table = tables_[rank_];
  const std::uint64_t count = AtomicRef(table.count).load(relaxed);
  if (!is_new || count == GpuBlockTable::kBlocks) return found->second;
  cudaIpcMemHandle_t handle{};
  if (cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(base)) != cudaSuccess) {
    cudaGetLastError();  // memory of a pool or of cuMemMap: it has no such handle
    return 0;
  }
  std::memcpy(table.entries[count].handle, &handle, sizeof(handle));
  AtomicRef(table.count).store(count + 1, release);  // pairs with: the load in map_what_is_new()
  found->second = static_cast<std::uint32_t>(count + 1);
  return found->second;
}

/// In the peer's order, so that one number says what is mapped. What cannot be mapped ends that.
void SharedBlocks::map_what_is_new(std::size_t peer) {
  GpuBlockTable& table = tables_[peer];
  std::vector<PeerMemory>& mapped = mapped_[peer];
  for (const std::uint64_t count = AtomicRef(table.count).load(acquire); mapped.size() < count;) {
    cudaIpcMemHandle_t handle{};
    std::memcpy(&handle, table.entries[mapped.size()].handle, sizeof(handle));
    void* memory = nullptr;
    if (cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess) {
      cudaGetLastError();
      return;
    }
    own_->blocks[peer].bases[mapped.size()] = static_cast<std::byte*>(memory);
    mapped.emplace_back(static_cast<std::byte*>(memory));
  }
}

}  // namespace ringtree
