// The allocator of tensors on emulated devices.
#pragma once

#include <c10/core/Allocator.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "emulated_device.h"

namespace ringtree::testing {

/// As PyTorch's own allocator does: what is freed serves the next tensor of its size on the stream on which
/// it was allocated, the lowest address first, at once and whatever that stream holds; but not before other
/// streams have come to where they were when it was freed, if record_stream() has told that they use it. It
/// waits for nobody.
class Memory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, Guard().getDevice()};
    const Place place{Guard().getDevice().index(), Guard().getStream(kCuda).id(), bytes};
    void* const memory = take(place);
    return {memory, memory, &give_back, Guard().getDevice()};
  }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current()));
  }

  void record(void* block, c10::StreamId stream) {
    const std::lock_guard lock(mutex_);
    const auto used = used_.find(block);
    if (used != used_.end() && used->second.place.stream != stream) used->second.also_on.insert(stream);
  }

 private:
  struct Place {
    c10::DeviceIndex device;
    c10::StreamId stream;
    std::size_t bytes;
    auto operator<=>(const Place&) const = default;
  };
  struct Use {
    Place place;
    std::set<c10::StreamId> also_on;
  };

  void* take(const Place& place) {
    const std::lock_guard lock(mutex_);
    void* memory = nullptr;
    auto found = freed_.lower_bound({place, nullptr});
    while (found != freed_.end() && found->first.first == place && !are_over(found->second)) ++found;
    if (found != freed_.end() && found->first.first == place)
      memory = freed_.extract(found).key().second;
    else
      check(cudaMalloc(&memory, place.bytes));
    used_[memory] = {place, {}};
    return memory;
  }

  static bool are_over(std::vector<cudaEvent_t>& events) {
    std::erase_if(events, [](cudaEvent_t event) {
      return cudaEventQuery(event) == cudaSuccess && cudaEventDestroy(event) == cudaSuccess;
    });
    cudaGetLastError();  // "not ready" is no error
    return events.empty();
  }

  static void give_back(void* block);

  void keep(void* block) {
    const std::lock_guard lock(mutex_);
    const Use use = used_.extract(block).mapped();
    std::vector<cudaEvent_t> ends;
    int before = 0;
    if (cudaGetDevice(&before) != cudaSuccess) return;  // the process ends
    cudaSetDevice(use.place.device);
    for (const c10::StreamId stream : use.also_on) {
      cudaEvent_t event = nullptr;
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      check(cudaEventRecord(event, native(stream)));
      ends.push_back(event);
    }
    cudaSetDevice(before);
    freed_.emplace(std::pair(use.place, block), std::move(ends));
  }

  std::mutex mutex_;  // guards:
  std::map<void*, Use> used_;
  std::map<std::pair<Place, void*>, std::vector<cudaEvent_t>> freed_;  // until when others use it
};

/// Never destroyed: tensors are freed until the process ends.
inline Memory& memory = *new Memory;

inline void Memory::give_back(void* block) { memory.keep(block); }

}  // namespace ringtree::testing
