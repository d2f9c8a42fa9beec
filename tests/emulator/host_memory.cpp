// Memory of the host that kernels may use, and what a pointer points to.
#include <cstring>
#include <new>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "runtime.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

constexpr std::align_val_t kPage{4096};

/// operator new, so that AddressSanitizer sees who writes beside it.
cudaError_t allocate_host(void** memory, std::size_t bytes) {
  if (memory == nullptr) return cudaErrorInvalidValue;
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (!is_device(current_device())) return cudaErrorNoDevice;
  void* const made = ::operator new(bytes, kPage, std::nothrow);
  if (made == nullptr) return cudaErrorMemoryAllocation;
  std::memset(made, kPoison, bytes);
  const auto lock = lock_allocations();
  add_allocation({Allocation::host, static_cast<std::byte*>(made), bytes, current_device()});
  *memory = made;
  return cudaSuccess;
}

}  // namespace
}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  return unsafe_api(__func__, [&] { return allocate_host(memory, bytes); });
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  return unsafe_api(__func__, [&] {
    return (flags & ~kKnown) != 0 ? cudaErrorInvalidValue : allocate_host(memory, bytes);
  });
}

cudaError_t cudaFreeHost(void* memory) {
  return unsafe_api(__func__, [&] {
    if (memory == nullptr) return cudaSuccess;
    const auto known = find_allocation(memory, 0);
    if (!known || known->kind != Allocation::host || known->base != memory) return cudaErrorInvalidValue;
    for (int device = 0; device < hardware().devices; ++device) wait_for_device(device);
    const auto lock = lock_allocations();
    if (allocation_at(memory, Allocation::host) == nullptr) return cudaErrorInvalidValue;
    remove_allocation(memory);
    ::operator delete(memory, kPage);
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags) {
  return api(__func__, [&] {
    const auto known = find_allocation(host);
    if (device == nullptr || flags != 0 || !known || !known->is_of_host()) return cudaErrorInvalidValue;
    *device = host;
    return cudaSuccess;
  });
}

cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned flags) {
  constexpr unsigned kKnown =
      cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterIoMemory | cudaHostRegisterReadOnly;
  return unsafe_api(__func__, [&] {
    if (memory == nullptr || bytes == 0 || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
    auto* const base = static_cast<std::byte*>(memory);
    if (find_allocation(base) || find_allocation(base + bytes - 1))
      return cudaErrorHostMemoryAlreadyRegistered;
    const auto lock = lock_allocations();
    add_allocation({Allocation::registered, base, bytes, current_device()});
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* memory) {
  return unsafe_api(__func__, [&] {
    const auto lock = lock_allocations();
    if (allocation_at(memory, Allocation::registered) == nullptr) return cudaErrorHostMemoryNotRegistered;
    remove_allocation(memory);
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  return api(__func__, [&] {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, nullptr};
    const auto known = find_allocation(memory);
    void* const address = const_cast<void*>(memory);
    if (!known)
      attributes->hostPointer = address;
    else if (known->is_of_host())
      *attributes = {cudaMemoryTypeHost, known->owner, address, address};
    else
      *attributes = {cudaMemoryTypeDevice, known->owner, address, nullptr};
    return cudaSuccess;
  });
}
