#include "cuda/kept.h"

#include <map>
#include <mutex>
#include <utility>

namespace ringtree {
namespace {

constexpr int kHost = -1;

struct Block {
  std::byte* memory;
  cudaEvent_t used;  ///< over once nobody uses it any more
};

/// By device and size.
struct Store {
  std::mutex mutex;
  std::multimap<std::pair<int, std::size_t>, Block> blocks;
};

/// Never destroyed: arrays are freed until the process ends.
Store& store() {
  static Store& all = *new Store;
  return all;
}

bool is_in_use(const Block& block) {
  if (cudaEventQuery(block.used) == cudaSuccess) return false;
  cudaGetLastError();  // "not ready" is no error
  return true;
}

std::byte* take(int device, std::size_t bytes) {
  Store& kept = store();
  const std::lock_guard lock(kept.mutex);
  const auto [begin, end] = kept.blocks.equal_range({device, bytes});
  for (auto found = begin; found != end; ++found) {
    const Block block = found->second;
    if (is_in_use(block)) continue;
    cudaEventDestroy(block.used);
    kept.blocks.erase(found);
    return block.memory;
  }
  return nullptr;
}

/// Null, or what is behind all that this thread has enqueued.
cudaEvent_t event_here() {
  cudaEvent_t event = nullptr;
  if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess &&
      cudaEventRecord(event, cudaStreamPerThread) == cudaSuccess)
    return event;
  cudaGetLastError();
  if (event != nullptr) cudaEventDestroy(event);
  return nullptr;
}

template <class Memory>
void keep_in(Memory memory, int device, std::size_t bytes) {
  const cudaEvent_t used = event_here();
  if (used == nullptr) return;  // it is freed then
  Store& kept = store();
  const std::lock_guard lock(kept.mutex);
  kept.blocks.emplace(std::pair(device, bytes), Block{memory.release(), used});
}

template <class IsMeant, class Free>
std::size_t free_unused(IsMeant is_meant, Free free) {
  std::size_t used = 0;
  Store& kept = store();
  const std::lock_guard lock(kept.mutex);
  std::erase_if(kept.blocks, [&](const auto& each) {
    const auto& [key, block] = each;
    if (!is_meant(key.first)) return false;
    if (is_in_use(block)) {
      ++used;
      return false;
    }
    cudaEventDestroy(block.used);
    free(block.memory);
    return true;
  });
  return used;
}

}  // namespace

std::byte* take_kept_on_device(std::size_t bytes) { return take(current_device(), bytes); }

std::byte* take_kept_on_host(std::size_t bytes) { return take(kHost, bytes); }

void keep(DeviceMemory<std::byte> memory, int device, std::size_t bytes) noexcept {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) return;
  keep_in(std::move(memory), device, bytes);
  cudaSetDevice(before);
}

void keep(HostMemory<std::byte> memory, std::size_t bytes) noexcept {
  keep_in(std::move(memory), kHost, bytes);
}

std::size_t free_kept_on_device() {
  return free_unused([](int device) { return device != kHost; }, [](std::byte* memory) { cudaFree(memory); });
}

std::size_t free_kept_on_host() {
  return free_unused([](int device) { return device == kHost; },
                     [](std::byte* memory) { cudaFreeHost(memory); });
}

}  // namespace ringtree
