#include "cuda/kept.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "cuda/order.h"

namespace ringtree {
namespace {

constexpr int kHost = -1;

struct Block {
  std::byte* memory;
  std::vector<Event> uses;  ///< over once nobody uses it any more
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

bool is_in_use(const Block& block) { return !std::all_of(block.uses.begin(), block.uses.end(), &is_over); }

std::byte* take(int device, std::size_t bytes) {
  Store& kept = store();
  const std::lock_guard lock(kept.mutex);
  const auto [begin, end] = kept.blocks.equal_range({device, bytes});
  for (auto found = begin; found != end; ++found) {
    if (is_in_use(found->second)) continue;
    return kept.blocks.extract(found).mapped().memory;
  }
  return nullptr;
}

/// Behind what may use an array that this thread frees: what its stream holds, and the calls of all
/// communicators, which other threads and streams may have made.
std::vector<Event> uses_so_far() {
  std::vector<Event> uses = StreamOrder::behind_all();
  uses.push_back(make_event());
  check_cuda(cudaEventRecord(uses.back().get(), cudaStreamPerThread), "cudaEventRecord");
  return uses;
}

void keep_in(std::byte* memory, int device, std::size_t bytes, std::vector<Event> uses) {
  Store& kept = store();
  const std::lock_guard lock(kept.mutex);
  kept.blocks.emplace(std::pair(device, bytes), Block{memory, std::move(uses)});
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
    free(block.memory);
    return true;
  });
  return used;
}

}  // namespace

std::byte* take_kept_on_device(std::size_t bytes) { return take(current_device(), bytes); }

std::byte* take_kept_on_host(std::size_t bytes) { return take(kHost, bytes); }

void keep(DeviceMemory<std::byte> memory, int device, std::size_t bytes) noexcept {
  keep_in(memory.release(), device, bytes, {});
}

void keep(HostMemory<std::byte> memory, std::size_t bytes) noexcept {
  keep_in(memory.release(), kHost, bytes, {});
}

void keep_array(DeviceMemory<std::byte> memory, int device, std::size_t bytes) noexcept try {
  const OnDevice here(device);
  const BesideCapture allowed;
  if (is_capturing(cudaStreamPerThread)) {
    [[maybe_unused]] std::byte* const of_a_graph = memory.release();  // which may run again at any time
    return;
  }
  std::vector<Event> uses = uses_so_far();
  keep_in(memory.release(), device, bytes, std::move(uses));
} catch (const Error&) {  // CUDA has ended, or a kernel has broken it
  memory.reset();
}

std::size_t free_kept_on_device() {
  return free_unused([](int device) { return device != kHost; }, [](std::byte* memory) { cudaFree(memory); });
}

std::size_t free_kept_on_host() {
  return free_unused([](int device) { return device == kHost; },
                     [](std::byte* memory) { cudaFreeHost(memory); });
}

}  // namespace ringtree
