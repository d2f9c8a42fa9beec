#include "execution.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>

#include "barrier.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "pool.h"
#include "runtime.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

std::atomic<std::uint64_t> launches{0};

/// One place for a block: its barriers and its shared memory. Blocks that exceed the device take turns.
class Place {
 public:
  Place(std::uint32_t lanes, std::size_t shared_bytes)
      : all(lanes), turn(lanes), shared_bytes_(shared_bytes), shared_(allocate(shared_bytes)) {
    const auto warp = static_cast<std::uint32_t>(warpSize);
    for (std::uint32_t first = 0; first < lanes; first += warp)
      warps.push_back(std::make_unique<Barrier>(std::min(warp, lanes - first)));
    poison();
  }

  std::byte* shared() { return shared_.get(); }
  void poison() { std::memset(shared_.get(), kPoison, shared_bytes_); }

  Barrier all;
  Barrier turn;  ///< between two blocks in this place

  /// Counts in turns: one is added to, one may still be read, one is cleared for the next vote.
  std::array<std::atomic<int>, 3> votes{};
  std::vector<std::unique_ptr<Barrier>> warps;

 private:
  /// The strictest alignment that kernels may hope for.
  static constexpr std::align_val_t kAlignment{1024};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, kAlignment); }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;

  static Memory allocate(std::size_t bytes) {
    return Memory(static_cast<std::byte*>(::operator new[](bytes, kAlignment)));
  }

  std::size_t shared_bytes_;
  Memory shared_;
};

thread_local Place* running = nullptr;
thread_local std::size_t votes_cast = 0;

Place& running_place() {
  if (running == nullptr) {
    std::fprintf(stderr, "ringtree emulator: device code called by a thread that runs no kernel\n");
    std::abort();
  }
  return *running;
}

uint3 at(std::size_t index, dim3 extent) {
  return {static_cast<unsigned>(index % extent.x), static_cast<unsigned>(index / extent.x % extent.y),
          static_cast<unsigned>(index / extent.x / extent.y)};
}

std::size_t volume(dim3 extent) { return std::size_t{extent.x} * extent.y * extent.z; }

/// The blocks that a device has room for, over all streams of this process. First come, first served: a
/// kernel that waits for one behind it hangs, as it may on a GPU.
class Residency {
 public:
  /// Waits for room for `least` blocks; returns for how many there is some, `most` or fewer.
  std::size_t take(std::size_t least, std::size_t most, std::size_t capacity) {
    std::unique_lock lock(mutex_);
    const std::uint64_t ticket = next_++;
    changed_.wait(lock, [&] { return ticket == served_ && resident_ + least <= capacity; });
    ++served_;
    const std::size_t blocks = std::min(most, capacity - resident_);
    resident_ += blocks;
    changed_.notify_all();
    return blocks;
  }

  void give_back(std::size_t blocks) {
    const std::lock_guard lock(mutex_);
    resident_ -= blocks;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ = 0, served_ = 0;
  std::size_t resident_ = 0;
};

Residency& residency(int device) {
  struct All {
    std::mutex mutex;
    std::map<int, Residency> devices;
  };
  auto& all = immortal<All>();
  const std::lock_guard lock(all.mutex);
  return all.devices[device];
}

struct FunctionLimits {
  std::mutex mutex;
  std::map<const void*, int> shared_bytes;

  int of(const void* kernel) {
    const std::lock_guard lock(mutex);
    const auto found = shared_bytes.find(kernel);
    return found == shared_bytes.end() ? kSharedBytes : found->second;
  }
};

/// One lane of one place, through all blocks that come to it.
void run_lane(const Launch& launch, Place& place, std::size_t first_block, std::size_t stride,
              std::size_t lane) {
  running = &place;
  votes_cast = 0;
  threadIdx = at(lane, launch.block);
  blockDim = launch.block;
  gridDim = launch.grid;
  for (std::size_t block = first_block; block < volume(launch.grid); block += stride) {
    if (block != first_block) {
      place.turn.arrive_and_wait();
      if (lane == 0) place.poison();
      place.turn.arrive_and_wait();
    }
    blockIdx = at(block, launch.grid);
    launch.lane();
  }
  running = nullptr;
}

}  // namespace

void run(const Launch& launch, int device) {
  const auto capacity = static_cast<std::size_t>(hardware().resident_blocks());
  const std::size_t all = volume(launch.grid), lanes = volume(launch.block);
  // Beside kernels that wait for one another, others run in the room that is left.
  const std::size_t blocks = residency(device).take(launch.cooperative ? all : 1, all, capacity);
  std::vector<std::unique_ptr<Place>> places;
  for (std::size_t i = 0; i < blocks; ++i)
    places.push_back(std::make_unique<Place>(static_cast<std::uint32_t>(lanes), launch.shared_bytes));
  Gate finished;
  pool().start(
      blocks * lanes,
      [&](std::size_t i) { run_lane(launch, *places[i / lanes], i / lanes, blocks, i % lanes); },
      [&] { finished.open(); });
  finished.wait();
  residency(device).give_back(blocks);
}

cudaError_t check(const Launch& launch) {
  const Hardware all = hardware();
  if (launch.kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  const std::size_t lanes = volume(launch.block), blocks = volume(launch.grid);
  if (lanes == 0 || lanes > static_cast<std::size_t>(all.lanes_per_block))
    return cudaErrorInvalidConfiguration;
  if (blocks == 0 || launch.grid.x > kMaxGridX || launch.grid.y > kMaxGridYZ || launch.grid.z > kMaxGridYZ)
    return cudaErrorInvalidConfiguration;
  if (launch.shared_bytes > static_cast<std::size_t>(immortal<FunctionLimits>().of(launch.kernel)))
    return cudaErrorInvalidValue;
  if (launch.cooperative && blocks > static_cast<std::size_t>(all.resident_blocks()))
    return cudaErrorCooperativeLaunchTooLarge;
  return cudaSuccess;
}

cudaError_t launch(const char* call, Launch what, cudaStream_t handle) {
  return api(call, [&] {
    if (const cudaError_t refused = check(what); refused != cudaSuccess) return refused;
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr || stream->device != current_device()) return cudaErrorInvalidResourceHandle;
    enter_queue(*stream);
    return submit(*stream, [what = std::move(what), device = stream->device] {
      ++launches;
      run(what, device);
    });
  });
}

cudaError_t function_attributes(cudaFuncAttributes* attributes, const void* kernel) {
  return api("cudaFuncGetAttributes", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    const Hardware all = hardware();
    *attributes = {};
    attributes->maxThreadsPerBlock = all.lanes_per_block;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = all.major * 10 + all.minor;
    attributes->maxDynamicSharedSizeBytes = immortal<FunctionLimits>().of(kernel);
    attributes->preferredShmemCarveout = -1;
    return cudaSuccess;
  });
}

cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return api("cudaFuncSetAttribute", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > kSharedBytesOptin)
      return cudaErrorInvalidValue;
    auto& limits = immortal<FunctionLimits>();
    const std::lock_guard lock(limits.mutex);
    limits.shared_bytes[kernel] = value;
    return cudaSuccess;
  });
}

cudaError_t blocks_per_multiprocessor(int* blocks, const void* kernel, int block_size,
                                      std::size_t shared_bytes) {
  return api("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (block_size <= 0) return cudaErrorInvalidValue;
    const Hardware all = hardware();
    const bool fits = block_size <= all.lanes_per_block &&
                      shared_bytes <= static_cast<std::size_t>(immortal<FunctionLimits>().of(kernel));
    *blocks = fits ? all.blocks_per_multiprocessor : 0;
    return cudaSuccess;
  });
}

std::byte* shared_memory() { return running_place().shared(); }
void block_barrier() { running_place().all.arrive_and_wait(); }

int block_vote(bool mine) {
  Place& place = running_place();
  const std::size_t vote = votes_cast++;
  if (mine) place.votes[vote % 3].fetch_add(1, std::memory_order_relaxed);
  place.all.arrive_and_wait();
  const int count = place.votes[vote % 3].load(std::memory_order_relaxed);
  // All have read the vote before this one, and nobody casts the next but one before this lane has come to
  // the next.
  if (threadIdx.x + threadIdx.y + threadIdx.z == 0)
    place.votes[(vote + 2) % 3].store(0, std::memory_order_relaxed);
  return count;
}

void warp_barrier() {
  const std::size_t lane = threadIdx.x + blockDim.x * (threadIdx.y + std::size_t{blockDim.y} * threadIdx.z);
  running_place().warps[lane / warpSize]->arrive_and_wait();
}

void yield_lane() { sched_yield(); }

void fence() {
#ifdef __SANITIZE_THREAD__
  // ThreadSanitizer knows no fences. A common word orders more than a fence does, so it may hide a race
  // between two lanes that both have fences; but it never reports one that is none.
  static std::atomic<int> common{0};
  common.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

std::uint64_t global_timer_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

void count_execution(Statistics& statistics) {
  statistics.launches = launches;
  statistics.threads = pool().threads();
}

}  // namespace ringtree_emulator
