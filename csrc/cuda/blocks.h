// Memory of GPUs that ranks of other processes map: any that cudaMalloc gave, whoever called it, and any that
// cuMemCreate gave with a file descriptor to be had of it.
//
// A block gets its number the first time that a call has an array in it, and peers map it when they next make
// a call themselves: until then the kernels take another algorithm (cuda/meeting.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/gpu.h"
#include "cuda/call.h"
#include "cuda/chunks.h"
#include "cuda/peer_process.h"
#include "cuda/runtime.h"

namespace ringtree {

/// Whether cudaMalloc gave it: what cudaDeviceEnablePeerAccess lets the process's other GPUs use. So may what
/// is not there.
bool is_plain(const void* memory);

class SharedBlocks {
 public:
  /// `own` is where kernels of `rank` look; `is_near` tells which ranks share its process, and so need none
  /// of this.
  SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near, HostShare& own);

  /// Says in `offer` where its buffers lie, and what is mapped of the peers.
  void describe(DeviceOffer& offer, std::size_t in_bytes, std::size_t out_bytes);

 private:
  /// One that this process has published. The handle is kept: a chunk that has another one is another one.
  struct SharedChunk {
    Chunk chunk;
    Descriptor descriptor;
  };
  /// Of one rank of another process.
  struct Mapped {
    std::vector<PeerMemory> allocations;
    std::optional<PeerProcess> process;
    std::vector<MappedRun> runs;
  };

  BufferPlace place_of(const void* memory, std::size_t bytes);
  std::uint32_t number_of(std::uintptr_t base, std::uint64_t identity);
  BufferPlace place_in_run(const void* memory, std::size_t bytes);
  std::uint32_t number_of_run(std::vector<Chunk> chunks);
  void map_new_allocations(std::size_t peer);
  void map_new_runs(std::size_t peer);

  GpuBlockTable* tables_;
  std::size_t rank_;
  std::vector<bool> is_near_;
  HostShare* own_;
  std::map<std::uint64_t, std::uint32_t> numbers_;  ///< by CUDA's identity; 0: cannot be shared
  std::vector<SharedChunk> chunks_;                 ///< as in the table
  std::vector<Mapped> mapped_;                      ///< by rank
};

}  // namespace ringtree
