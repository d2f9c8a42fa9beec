// Memory of the devices: a file in memory for each allocation, and handles by which others map it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "runtime.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

struct Handle {
  std::uint64_t magic;
  pid_t process;
  int file, slot;
  std::uint64_t bytes, filesystem, inode;  ///< the latter two, because descriptors are given to other files
  std::uint64_t address;
};
constexpr std::uint64_t kMagic = 0x72696e6774726565;
static_assert(sizeof(Handle) <= sizeof(cudaIpcMemHandle_t));

cudaError_t open_handle(void** memory, const Handle& handle) {
  const std::string path = "/proc/" + std::to_string(handle.process) + "/fd/" + std::to_string(handle.file);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return cudaErrorMapBufferObjectFailed;
  struct stat status{};
  std::byte* base = nullptr;
  if (fstat(file, &status) == 0 && status.st_dev == handle.filesystem && status.st_ino == handle.inode)
    base = map_guarded(file, handle.bytes);
  close(file);
  if (base == nullptr) return cudaErrorMapBufferObjectFailed;
  add_allocation({Allocation::ipc, base, handle.bytes, current_device(), -1, status.st_dev, status.st_ino, 1,
                  true, handle.process, handle.address});
  *memory = base;
  return cudaSuccess;
}

}  // namespace

cudaError_t allocate(void** memory, std::size_t bytes, Allocation::Kind kind) {
  if (!is_device(current_device())) return cudaErrorNoDevice;
  if (memory == nullptr) return cudaErrorInvalidValue;
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  const std::size_t capacity = hardware().memory_bytes, used = allocated_bytes(current_device());
  if (bytes > capacity || used > capacity - bytes) return cudaErrorMemoryAllocation;
  const int file = memfd_create("ringtree emulated device memory", MFD_CLOEXEC);
  struct stat status{};
  std::byte* base = nullptr;
  if (file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0 && fstat(file, &status) == 0)
    base = map_guarded(file, bytes);
  if (base == nullptr) {
    if (file >= 0) close(file);
    return cudaErrorMemoryAllocation;
  }
  std::memset(base, kPoison, bytes);
  const auto lock = lock_allocations();
  add_allocation({kind, base, bytes, current_device(), file, status.st_dev, status.st_ino});
  *memory = base;
  return cudaSuccess;
}

bool free_allocation(void* base, Allocation::Kind kind) {
  const auto lock = lock_allocations();
  const Allocation* const known = allocation_at(base, kind);
  if (known == nullptr) return false;
  const Allocation gone = *known;
  remove_allocation(base);
  unmap_guarded(gone.base, gone.bytes);
  close(gone.file);
  return true;
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return unsafe_api(__func__, [&] { return allocate(memory, bytes, Allocation::device); });
}

// Waits for the device, as CUDA's does in practice: who frees beneath a kernel that waits for him hangs there
// too.
cudaError_t cudaFree(void* memory) {
  return unsafe_api(__func__, [&] {
    if (memory == nullptr) return cudaSuccess;
    const auto known = find_allocation(memory, 0);
    if (!known || !known->is_own() || known->base != memory) return cudaErrorInvalidValue;
    wait_for_device(known->owner);
    return free_allocation(memory, known->kind) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return api(__func__, [&] {
    *total = hardware().memory_bytes;
    *free = *total - allocated_bytes(current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  return api(__func__, [&] {
    const auto known = find_allocation(memory);  // that of pools has no such handles
    if (handle == nullptr || !known || known->kind != Allocation::device) return cudaErrorInvalidValue;
    const Handle made{
        kMagic,       getpid(),          known->file,  slot_of(known->owner),
        known->bytes, known->filesystem, known->inode, reinterpret_cast<std::uintptr_t>(known->base)};
    *handle = {};
    std::memcpy(handle->reserved, &made, sizeof made);
    return cudaSuccess;
  });
}

cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned flags) {
  return unsafe_api(__func__, [&] {
    Handle wanted{};
    std::memcpy(&wanted, handle.reserved, sizeof wanted);
    if (memory == nullptr || flags != cudaIpcMemLazyEnablePeerAccess || wanted.magic != kMagic)
      return cudaErrorInvalidValue;
    if (wanted.process == getpid()) return cudaErrorDeviceUninitialized;
    if (!reaches(current_device(), wanted.slot)) return cudaErrorPeerAccessUnsupported;
    const auto lock = lock_allocations();
    if (Allocation* const known = allocation_of_file(wanted.filesystem, wanted.inode); known != nullptr) {
      ++known->opened;
      *memory = known->base;
      return cudaSuccess;
    }
    if (is_open_of(wanted.process, wanted.address, wanted.bytes)) return cudaErrorAlreadyMapped;
    return open_handle(memory, wanted);
  });
}

cudaError_t cudaIpcCloseMemHandle(void* memory) {
  return unsafe_api(__func__, [&] {
    const auto known = find_allocation(memory, 0);
    if (!known || known->kind != Allocation::ipc || known->base != memory) return cudaErrorInvalidValue;
    wait_for_device(known->owner);
    const auto lock = lock_allocations();
    Allocation* const open = allocation_at(memory, Allocation::ipc);
    if (open == nullptr) return cudaErrorInvalidValue;
    if (--open->opened != 0) return cudaSuccess;
    remove_allocation(memory);
    unmap_guarded(known->base, known->bytes);
    return cudaSuccess;
  });
}
