#include "cuda/chunks.h"

#include <cuda_runtime.h>
#include <fcntl.h>

#include "cuda/driver.h"
#include "cuda/runtime.h"

namespace ringtree {
namespace {

constexpr CUmemAllocationHandleType kByDescriptor = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

template <class Function>
bool find(Function*& function, const char* name) {
  function = driver_function<Function>(name);
  return function != nullptr;
}

struct Driver {
  decltype(cuMemGetAddressRange)* range;
  decltype(cuMemRetainAllocationHandle)* retain;
  decltype(cuMemRelease)* release;
  decltype(cuMemGetAllocationPropertiesFromHandle)* properties;
  decltype(cuMemExportToShareableHandle)* export_handle;
  decltype(cuMemImportFromShareableHandle)* import_handle;
  decltype(cuMemAddressReserve)* reserve;
  decltype(cuMemAddressFree)* free;
  decltype(cuMemMap)* map;
  decltype(cuMemUnmap)* unmap;
  decltype(cuMemSetAccess)* set_access;
};

/// Null if the driver lacks one of them.
const Driver* driver() {
  static Driver all{};
  static const bool has_all =
      find(all.range, "cuMemGetAddressRange") && find(all.retain, "cuMemRetainAllocationHandle") &&
      find(all.release, "cuMemRelease") && find(all.properties, "cuMemGetAllocationPropertiesFromHandle") &&
      find(all.export_handle, "cuMemExportToShareableHandle") &&
      find(all.import_handle, "cuMemImportFromShareableHandle") && find(all.reserve, "cuMemAddressReserve") &&
      find(all.free, "cuMemAddressFree") && find(all.map, "cuMemMap") && find(all.unmap, "cuMemUnmap") &&
      find(all.set_access, "cuMemSetAccess");
  return has_all ? &all : nullptr;
}

std::optional<MemoryHandle> handle_at(std::uintptr_t address) {
  CUmemGenericAllocationHandle handle = 0;
  if (driver()->retain(&handle, reinterpret_cast<void*>(address)) != CUDA_SUCCESS) return std::nullopt;
  return MemoryHandle(handle);
}

std::optional<Chunk> chunk_at(std::uintptr_t address) {
  std::optional<MemoryHandle> handle = handle_at(address);
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  if (!handle || driver()->range(&base, &bytes, address) != CUDA_SUCCESS || bytes == 0) return std::nullopt;
  return Chunk{static_cast<std::uintptr_t>(base), bytes, std::move(*handle)};
}

/// Whether what is mapped there is of the chunk's handle.
bool is_of(const Chunk& chunk, std::uintptr_t address) {
  const std::optional<MemoryHandle> there = handle_at(address);
  return there && there->value() == chunk.handle.value();
}

/// Whether the handle's memory begins where the chunk does, and goes on up to its end. No driver promises
/// that, and a part of a pool's memory would be another part at its peers.
bool is_whole(const Chunk& chunk) {
  const std::uintptr_t end = chunk.base + chunk.bytes;
  return !is_of(chunk, chunk.base - 1) && is_of(chunk, chunk.base) && is_of(chunk, end - 1) &&
         !is_of(chunk, end);
}

std::optional<MemoryHandle> imported(const Descriptor& descriptor) {
  CUmemGenericAllocationHandle handle = 0;
  auto* const shared = reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor.number()));
  if (driver()->import_handle(&handle, shared, kByDescriptor) != CUDA_SUCCESS) return std::nullopt;
  return MemoryHandle(handle);
}

}  // namespace

MemoryHandle::~MemoryHandle() {
  if (value_ != 0) driver()->release(value_);
}

std::vector<Chunk> chunks_of(const void* memory, std::size_t bytes, std::size_t most) {
  if (memory == nullptr || driver() == nullptr) return {};
  std::vector<Chunk> chunks;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  for (std::uintptr_t next = begin; next < begin + bytes;) {
    std::optional<Chunk> chunk = chunk_at(next);
    if (!chunk || chunks.size() == most || (!chunks.empty() && chunk->base != next)) return {};
    next = chunk->base + chunk->bytes;
    chunks.push_back(std::move(*chunk));
  }
  return chunks;
}

bool is_mapped(const Chunk& chunk) { return is_of(chunk, chunk.base); }

Descriptor exported(const Chunk& chunk) {
  CUmemAllocationProp properties{};
  if (driver()->properties(&properties, chunk.handle.value()) != CUDA_SUCCESS ||
      (properties.requestedHandleTypes & kByDescriptor) == 0 ||
      properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE || !is_whole(chunk))
    return {};
  int number = -1;
  if (driver()->export_handle(&number, chunk.handle.value(), kByDescriptor, 0) != CUDA_SUCCESS) return {};
  fcntl(number, F_SETFD, FD_CLOEXEC);  // programs that this one starts would keep the memory
  return Descriptor(number);
}

std::optional<MappedRun> MappedRun::of(std::span<const Descriptor> descriptors,
                                       std::span<const GpuBlockTable::Chunk> chunks) {
  if (driver() == nullptr || descriptors.size() != chunks.size()) return std::nullopt;
  MappedRun run;
  std::vector<MemoryHandle> handles;  // once mapped, memory needs them no more
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    std::optional<MemoryHandle> handle = imported(descriptors[i]);
    if (!handle) return std::nullopt;
    handles.push_back(std::move(*handle));
    run.bytes_ += chunks[i].bytes;
  }
  if (driver()->reserve(&run.base_, run.bytes_, 0, 0, 0) != CUDA_SUCCESS) return std::nullopt;
  CUdeviceptr next = run.base_;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (driver()->map(next, chunks[i].bytes, 0, handles[i].value(), 0) != CUDA_SUCCESS) return std::nullopt;
    run.mapped_.emplace_back(next, chunks[i].bytes);
    next += chunks[i].bytes;
  }
  const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, current_device()},
                               CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  if (driver()->set_access(run.base_, run.bytes_, &access, 1) != CUDA_SUCCESS) return std::nullopt;
  return run;
}

MappedRun::~MappedRun() {
  for (const auto& [address, bytes] : mapped_) driver()->unmap(address, bytes);
  if (base_ != 0) driver()->free(base_, bytes_);
}

}  // namespace ringtree
