#include "allocations.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace ringtree_emulator {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t in_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

/// Forbids, or allows again, the end of the last page, which no guard page protects.
void guard_tail([[maybe_unused]] std::byte* base, [[maybe_unused]] std::size_t bytes,
                [[maybe_unused]] bool on) {
#ifdef __SANITIZE_ADDRESS__
  if (on)
    __asan_poison_memory_region(base + bytes, in_pages(bytes) - bytes);
  else
    __asan_unpoison_memory_region(base, in_pages(bytes));
#endif
}

struct Allocations {
  std::mutex mutex;
  std::map<const std::byte*, Allocation> all;
};

Allocations& allocations() { return immortal<Allocations>(); }

/// Addresses without memory, by size. Nothing of the host comes to lie there: what is allocated next lies
/// where the last one did, as with CUDA's allocator, and who uses freed memory is told.
struct FreeAddresses {
  std::mutex mutex;
  std::map<std::size_t, std::vector<std::byte*>> of_size;
};

FreeAddresses& free_addresses() { return immortal<FreeAddresses>(); }

/// Forbids all of it, with the memory that lies there. With `space` null: anywhere.
std::byte* reserve_addresses(std::byte* space, std::size_t size) {
  const int fixed = space == nullptr ? 0 : MAP_FIXED;
  void* const reserved = mmap(space, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  return reserved == MAP_FAILED ? nullptr : static_cast<std::byte*>(reserved);
}

std::byte* take_addresses(std::size_t size) {
  const std::lock_guard lock(free_addresses().mutex);
  std::vector<std::byte*>& known = free_addresses().of_size[size];
  if (known.empty()) return reserve_addresses(nullptr, size);
  std::byte* const space = known.back();
  known.pop_back();
  return space;
}

void give_back_addresses(std::byte* space, std::size_t size) {
  reserve_addresses(space, size);
  const std::lock_guard lock(free_addresses().mutex);
  free_addresses().of_size[size].push_back(space);
}

}  // namespace

std::byte* map_guarded(int file, std::size_t bytes) {
  const std::size_t size = in_pages(bytes);
  std::byte* const space = take_addresses(size + 2 * kPage);
  if (space == nullptr) return nullptr;
  std::byte* const base = space + kPage;
  if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
    give_back_addresses(space, size + 2 * kPage);
    return nullptr;
  }
  guard_tail(base, bytes, true);
  return base;
}

void unmap_guarded(std::byte* base, std::size_t bytes) {
  guard_tail(base, bytes, false);
  give_back_addresses(base - kPage, in_pages(bytes) + 2 * kPage);
}

std::unique_lock<std::mutex> lock_allocations() { return std::unique_lock(allocations().mutex); }

void add_allocation(const Allocation& allocation) { allocations().all[allocation.base] = allocation; }

std::optional<Allocation> find_allocation(const void* address, std::size_t size) {
  const auto lock = lock_allocations();
  const auto& all = allocations().all;
  const auto after = all.upper_bound(static_cast<const std::byte*>(address));
  if (after == all.begin() || !std::prev(after)->second.contains(address, size)) return std::nullopt;
  return std::prev(after)->second;
}

bool is_usable(const void* address, std::size_t size) {
  const auto* next = static_cast<const std::byte*>(address);
  for (auto known = find_allocation(next); known && known->is_accessible; known = find_allocation(next)) {
    if (known->contains(next, size)) return true;
    if (known->kind != Allocation::chunk) return false;
    const auto here = static_cast<std::size_t>(known->base + known->bytes - next);
    next += here;
    size -= here;
  }
  return false;
}

Allocation* allocation_at(const void* base, Allocation::Kind kind) {
  const auto found = allocations().all.find(static_cast<const std::byte*>(base));
  return found == allocations().all.end() || found->second.kind != kind ? nullptr : &found->second;
}

Allocation* allocation_of_file(dev_t filesystem, ino_t inode) {
  for (auto& [base, allocation] : allocations().all)
    if (allocation.kind == Allocation::ipc && allocation.filesystem == filesystem &&
        allocation.inode == inode)
      return &allocation;
  return nullptr;
}

bool is_open_of(pid_t process, std::uintptr_t address, std::size_t bytes) {
  return std::any_of(allocations().all.begin(), allocations().all.end(), [&](const auto& entry) {
    const Allocation& open = entry.second;
    return open.kind == Allocation::ipc && open.process == process && open.address < address + bytes &&
           address < open.address + open.bytes;
  });
}

void remove_allocation(const void* base) { allocations().all.erase(static_cast<const std::byte*>(base)); }

std::size_t allocated_bytes(int device) {
  const auto lock = lock_allocations();
  std::size_t bytes = created_bytes(device);
  for (const auto& [base, allocation] : allocations().all)
    if (allocation.is_own() && allocation.owner == device) bytes += allocation.bytes;
  return bytes;
}

void forbid_host_memory() {
#ifndef __SANITIZE_ADDRESS__  // which reads it, in search of leaks
  const auto lock = lock_allocations();
  for (const auto& [base, allocation] : allocations().all)
    if (allocation.kind == Allocation::host)
      mprotect(allocation.base, allocation.bytes / kPage * kPage, PROT_NONE);
#endif
}

void count_allocations(Statistics& statistics) {
  const auto lock = lock_allocations();
  for (const auto& [base, allocation] : allocations().all) {
    switch (allocation.kind) {
      case Allocation::device:
      case Allocation::pooled:
      case Allocation::graph:
        ++statistics.allocations;
        statistics.allocated_bytes += allocation.bytes;
        break;
      case Allocation::host:
        ++statistics.host_allocations;
        statistics.host_allocated_bytes += allocation.bytes;
        break;
      case Allocation::ipc: statistics.opened_handles += allocation.opened; break;
      case Allocation::registered: ++statistics.registrations; break;
      case Allocation::chunk: ++statistics.mapped_chunks; break;
    }
  }
}

}  // namespace ringtree_emulator
