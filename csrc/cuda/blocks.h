// Memory of GPUs that ranks of other processes map: any that cudaMalloc gave, whoever called it.
//
// A block gets its number the first time that a call has an array in it, and peers map it when they next make
// a call themselves: until then the kernels take another algorithm (cuda/meeting.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "core/gpu.h"
#include "cuda/call.h"
#include "cuda/runtime.h"

namespace ringtree {

class SharedBlocks {
 public:
  /// `own` is where kernels of `rank` look; `is_near` tells which ranks share its process, and so need none
  /// of this.
  SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near, HostShare& own);

  /// Says in `offer` where its buffers lie, and what is mapped of the peers.
  void describe(DeviceOffer& offer);

 private:
  BufferPlace place_of(const void* memory);
  std::uint32_t number_of(std::uintptr_t base, std::uint64_t identity);
  void map_what_is_new(std::size_t peer);

  GpuBlockTable* tables_;
  std::size_t rank_;
  std::vector<bool> is_near_;
  HostShare* own_;
  std::map<std::uint64_t, std::uint32_t> numbers_;  ///< by CUDA's identity; 0: cannot be shared
  std::vector<std::vector<PeerMemory>> mapped_;     ///< by rank
};

}  // namespace ringtree
