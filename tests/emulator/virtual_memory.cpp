// Memory in two parts, as CUDA's virtual memory management has it: handles of physical memory, a file each,
// and reserved addresses, to which it is mapped. Whoever has a descriptor of such a file can map it, too.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "allocations.h"
#include "device_limits.h"
#include "driver.h"

namespace ringtree_emulator {
namespace {

/// There until nobody refers to it and it is mapped nowhere.
struct Physical {
  int file;
  std::size_t bytes;
  int slot;     ///< of the device
  bool is_own;  ///< cuMemCreate() made it here
  CUmemAllocationProp properties;
  std::size_t references, mappings;
};

struct Mapping {
  std::size_t bytes;
  CUmemGenericAllocationHandle handle;
};

/// Guarded by lock_allocations().
struct VirtualMemory {
  std::map<CUmemGenericAllocationHandle, Physical> physical;
  std::map<CUdeviceptr, std::size_t> reservations;
  std::map<CUdeviceptr, Mapping> mappings;
};

VirtualMemory& memory() { return immortal<VirtualMemory>(); }

constexpr const char* kName = "ringtree emulated chunk of device ";

bool is_granular(std::size_t bytes) { return bytes % kGranularity == 0; }

/// Handles are numbered from 1 on, and a number that is free is given again, as addresses are.
CUmemGenericAllocationHandle add(const Physical& made) {
  CUmemGenericAllocationHandle handle = 1;
  while (memory().physical.contains(handle)) ++handle;
  memory().physical[handle] = made;
  return handle;
}

Physical* find(CUmemGenericAllocationHandle handle) {
  const auto found = memory().physical.find(handle);
  return found == memory().physical.end() || found->second.references == 0 ? nullptr : &found->second;
}

void drop_if_unused(CUmemGenericAllocationHandle handle) {
  const auto found = memory().physical.find(handle);
  if (found->second.references != 0 || found->second.mappings != 0) return;
  close(found->second.file);
  memory().physical.erase(found);
}

/// What contains [address, address + bytes): an entry of `all`, or its end.
template <class Entries, class SizeOf>
auto containing(Entries& all, CUdeviceptr address, std::size_t bytes, SizeOf size_of) {
  auto found = all.upper_bound(address);
  if (found == all.begin()) return all.end();
  --found;
  const std::size_t offset = address - found->first, size = size_of(found->second);
  return offset < size && bytes <= size - offset ? found : all.end();
}

auto mapping_at(CUdeviceptr address) {
  return containing(memory().mappings, address, 1, [](const Mapping& each) { return each.bytes; });
}

bool is_free(CUdeviceptr address, std::size_t bytes) {
  const auto next = memory().mappings.lower_bound(address);
  return mapping_at(address) == memory().mappings.end() &&
         (next == memory().mappings.end() || next->first >= address + bytes);
}

/// Whether the range is whole mappings, one behind the other.
bool is_mapped(CUdeviceptr address, std::size_t bytes) {
  CUdeviceptr next = address;
  for (auto each = memory().mappings.find(address); each != memory().mappings.end() && each->first == next;
       ++each) {
    next += each->second.bytes;
    if (next >= address + bytes) break;
  }
  return bytes != 0 && next == address + bytes;
}

template <class Body>
CUresult for_each_mapping(CUdeviceptr address, std::size_t bytes, Body body) {
  const auto end = memory().mappings.lower_bound(address + bytes);
  for (auto each = memory().mappings.find(address); each != end; ++each)
    if (const CUresult result = body(each->first, each->second); result != CUDA_SUCCESS) return result;
  return CUDA_SUCCESS;
}

/// The slot of the device whose memory the file is; -1: it is something else.
int slot_of_file(int file) {
  std::array<char, 128> name{};
  const std::string link = "/proc/self/fd/" + std::to_string(file);
  if (readlink(link.c_str(), name.data(), name.size() - 1) < 0) return -1;
  int slot = -1;
  const std::string format = std::string("/memfd:") + kName + "%d";
  return std::sscanf(name.data(), format.c_str(), &slot) == 1 ? slot : -1;
}

int poisoned_file(std::size_t bytes, int slot) {
  const int file = memfd_create((kName + std::to_string(slot)).c_str(), MFD_CLOEXEC);
  if (file < 0) return -1;
  void* data = MAP_FAILED;
  if (ftruncate(file, static_cast<off_t>(bytes)) == 0)
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) {
    close(file);
    return -1;
  }
  std::memset(data, kPoison, bytes);
  munmap(data, bytes);
  return file;
}

/// Addresses of the size that nobody may touch.
std::byte* reserve(std::size_t bytes) {
  void* const space = mmap(nullptr, bytes + kGranularity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (space == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(space);
  const std::size_t skipped =
      (kGranularity - reinterpret_cast<std::uintptr_t>(begin) % kGranularity) % kGranularity;
  if (skipped != 0) munmap(begin, skipped);
  munmap(begin + skipped + bytes, kGranularity - skipped);
  return begin + skipped;
}

}  // namespace

std::size_t created_bytes(int device) {
  std::size_t bytes = 0;
  for (const auto& [handle, each] : memory().physical)
    if (each.is_own && each.slot == slot_of(device)) bytes += each.bytes;
  return bytes;
}

void count_virtual_memory(Statistics& statistics) {
  const auto lock = lock_allocations();
  for (const auto& [handle, each] : memory().physical) statistics.memory_handles += each.references;
  statistics.reservations = memory().reservations.size();
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp* properties, unsigned long long flags) {
  return unsafe_driver_api(__func__, [&] {
    if (handle == nullptr || properties == nullptr || bytes == 0 || !is_granular(bytes) || flags != 0 ||
        properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
      return CUDA_ERROR_INVALID_VALUE;
    if ((properties->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0)
      return CUDA_ERROR_NOT_SUPPORTED;
    const int device = properties->location.id;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (bytes > hardware().memory_bytes || allocated_bytes(device) > hardware().memory_bytes - bytes)
      return CUDA_ERROR_OUT_OF_MEMORY;
    const int file = poisoned_file(bytes, slot_of(device));
    if (file < 0) return CUDA_ERROR_OUT_OF_MEMORY;
    const auto lock = lock_allocations();
    *handle = add({file, bytes, slot_of(device), true, *properties, 1, 0});
    return CUDA_SUCCESS;
  });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    Physical* const known = find(handle);
    if (known == nullptr) return CUDA_ERROR_INVALID_VALUE;
    --known->references;
    drop_if_unused(handle);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    const auto mapping = mapping_at(reinterpret_cast<std::uintptr_t>(address));
    if (handle == nullptr || mapping == memory().mappings.end()) return CUDA_ERROR_INVALID_VALUE;
    *handle = mapping->second.handle;
    ++memory().physical[*handle].references;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* properties,
                                                CUmemGenericAllocationHandle handle) {
  return driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    const Physical* const known = find(handle);
    if (properties == nullptr || known == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *properties = known->properties;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemExportToShareableHandle(void* shared, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    const Physical* const known = find(handle);
    if (shared == nullptr || known == nullptr || flags != 0 ||
        type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
        (known->properties.requestedHandleTypes & type) == 0)
      return CUDA_ERROR_INVALID_VALUE;
    const int copy = fcntl(known->file, F_DUPFD, 0);
    if (copy < 0) return CUDA_ERROR_UNKNOWN;
    std::memcpy(shared, &copy, sizeof copy);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shared,
                                        CUmemAllocationHandleType type) {
  return unsafe_driver_api(__func__, [&] {
    const int given = static_cast<int>(reinterpret_cast<std::intptr_t>(shared)), slot = slot_of_file(given);
    struct stat status{};
    if (handle == nullptr || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || slot < 0 ||
        fstat(given, &status) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    const int file = fcntl(given, F_DUPFD_CLOEXEC, 0);
    if (file < 0) return CUDA_ERROR_UNKNOWN;
    const CUmemAllocationProp properties{
        CU_MEM_ALLOCATION_TYPE_PINNED, type, {CU_MEM_LOCATION_TYPE_DEVICE, slot - slot_of(0)}, nullptr, {}};
    const auto lock = lock_allocations();
    *handle = add({file, static_cast<std::size_t>(status.st_size), slot, false, properties, 1, 0});
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressReserve(CUdeviceptr* address, std::size_t bytes, std::size_t alignment, CUdeviceptr hint,
                             unsigned long long flags) {
  return unsafe_driver_api(__func__, [&] {
    if (address == nullptr || bytes == 0 || !is_granular(bytes) || alignment > kGranularity || hint != 0 ||
        flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    const std::byte* const base = reserve(bytes);
    if (base == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = reinterpret_cast<std::uintptr_t>(base);
    const auto lock = lock_allocations();
    memory().reservations[*address] = bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressFree(CUdeviceptr address, std::size_t bytes) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    const auto reserved = memory().reservations.find(address);
    if (reserved == memory().reservations.end() || reserved->second != bytes || !is_free(address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    memory().reservations.erase(reserved);
    munmap(pointer_of(address), bytes);
    return CUDA_SUCCESS;
  });
}

// Nobody may touch it before cuMemSetAccess().
CUresult cuMemMap(CUdeviceptr address, std::size_t bytes, std::size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    Physical* const known = find(handle);
    auto& reservations = memory().reservations;
    const auto reserved = containing(reservations, address, bytes, [](std::size_t size) { return size; });
    if (known == nullptr || reserved == reservations.end() || bytes == 0 || bytes > known->bytes ||
        !is_granular(bytes) || !is_granular(address) || offset != 0 || flags != 0 || !is_free(address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    std::byte* const base = pointer_of(address);
    struct stat status{};
    if (fstat(known->file, &status) != 0 ||
        mmap(base, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, known->file, 0) == MAP_FAILED)
      return CUDA_ERROR_OUT_OF_MEMORY;
    ++known->mappings;
    memory().mappings[address] = {bytes, handle};
    const int device = known->is_own ? known->properties.location.id : current_device();
    add_allocation({Allocation::chunk, base, bytes, device, -1, status.st_dev, status.st_ino, 0, false});
    return CUDA_SUCCESS;
  });
}

CUresult cuMemUnmap(CUdeviceptr address, std::size_t bytes) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    if (!is_mapped(address, bytes)) return CUDA_ERROR_INVALID_VALUE;
    for_each_mapping(address, bytes, [](CUdeviceptr begin, const Mapping& each) {
      remove_allocation(pointer_of(begin));
      --memory().physical[each.handle].mappings;
      drop_if_unused(each.handle);
      return CUDA_SUCCESS;
    });
    memory().mappings.erase(memory().mappings.find(address), memory().mappings.lower_bound(address + bytes));
    const void* const hole =
        mmap(pointer_of(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return hole == MAP_FAILED ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
  });
}

CUresult cuMemSetAccess(CUdeviceptr address, std::size_t bytes, const CUmemAccessDesc* accesses,
                        std::size_t count) {
  return unsafe_driver_api(__func__, [&] {
    const auto lock = lock_allocations();
    if (accesses == nullptr || count != 1 || accesses->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        !is_mapped(address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    const int device = accesses->location.id;
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    int protection = PROT_NONE;
    if (accesses->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE) protection |= PROT_READ;
    if (accesses->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) protection |= PROT_WRITE;
    return for_each_mapping(address, bytes, [&](CUdeviceptr begin, const Mapping& each) {
      if (!reaches(device, memory().physical[each.handle].slot)) return CUDA_ERROR_INVALID_DEVICE;
      std::byte* const base = pointer_of(begin);
      if (mprotect(base, each.bytes, protection) != 0) return CUDA_ERROR_UNKNOWN;
      allocation_at(base, Allocation::chunk)->is_accessible = protection != PROT_NONE;
      return CUDA_SUCCESS;
    });
  });
}
