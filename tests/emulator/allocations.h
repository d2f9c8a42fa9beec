// What memory the devices know: their own, in files that other processes can map, and that of the host.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "emulator.h"

namespace ringtree_emulator {

struct Allocation {
  /// `pooled` is from cudaMallocAsync(); `graph` too, while it was captured; `chunk` from cuMemMap().
  enum Kind { device, pooled, graph, ipc, chunk, host, registered };

  Kind kind;
  std::byte* base;
  std::size_t bytes;   ///< as asked for
  int owner;           ///< the device
  int file = -1;       ///< its descriptor, for device memory
  dev_t filesystem{};  ///< with inode, which file that is
  ino_t inode{};
  std::size_t opened = 0;  ///< how often, for ipc
  bool is_accessible = true;
  pid_t process = 0;  ///< whose it is, for ipc, and where it lies there
  std::uintptr_t address = 0;

  bool is_own() const { return kind == device || kind == pooled || kind == graph; }
  bool is_of_host() const { return kind == host || kind == registered; }

  bool contains(const void* address, std::size_t size) const {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - base);
    return address >= base && offset <= bytes && size <= bytes - offset;
  }
};

/// The allocation that [address, address + size) lies in.
std::optional<Allocation> find_allocation(const void* address, std::size_t size = 1);

/// Whether devices may use all of [address, address + size): of one allocation, or of chunks that lie one
/// behind the other.
bool is_usable(const void* address, std::size_t size);

/// Maps `bytes` of `file`, between pages that nobody may touch. Null if that fails.
std::byte* map_guarded(int file, std::size_t bytes);
void unmap_guarded(std::byte* base, std::size_t bytes);

/// Guards what follows; opening and closing is more than one step.
std::unique_lock<std::mutex> lock_allocations();
void add_allocation(const Allocation& allocation);
/// Null if no allocation of that kind begins at `base`.
Allocation* allocation_at(const void* base, Allocation::Kind kind);
Allocation* allocation_of_file(dev_t filesystem, ino_t inode);
/// Whether memory is open that `process` had at one of those addresses.
bool is_open_of(pid_t process, std::uintptr_t address, std::size_t bytes);
void remove_allocation(const void* base);

/// Memory of the current device, of a `kind` that is_own(). In device_memory.cpp.
cudaError_t allocate(void** memory, std::size_t bytes, Allocation::Kind kind);
/// Whether there was such memory. Does not look whether anybody still uses it.
bool free_allocation(void* base, Allocation::Kind kind);

/// What has been given to cudaMalloc(), cudaMallocAsync() and cuMemCreate() on the device.
std::size_t allocated_bytes(int device);
/// To cuMemCreate() alone; under the lock. In virtual_memory.cpp.
std::size_t created_bytes(int device);
void count_allocations(Statistics& statistics);
/// Takes the memory away that cudaMallocHost() and cudaHostAlloc() gave, as far as it fills pages.
void forbid_host_memory();
void count_virtual_memory(Statistics& statistics);

}  // namespace ringtree_emulator
