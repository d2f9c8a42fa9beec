// Memory of GPUs that ranks of other processes map: any that cudaMalloc gave, whoever called it, and any that
// cuMemCreate gave with a file descriptor to be had of it.
//
// A block gets its number the first time that a call has an array in it, and peers map it when they next make
// a call themselves: until then the kernels take another algorithm (cuda/meeting.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "core/descriptor.h"
#include "core/gpu.h"
#include "cuda/call.h"
#include "cuda/chunks.h"
#include "cuda/post.h"
#include "cuda/runtime.h"

namespace ringtree {

/// Whether cudaMalloc gave it: what cudaDeviceEnablePeerAccess lets the process's other GPUs use. So may what
/// is not there.
bool is_plain(const void* memory);

class SharedBlocks {
 public:
  /// Collective. `own` is where kernels of `rank` look; `is_near` tells which ranks share its process, and so
  /// need none of this.
  SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near, const GpuExchange& exchange,
               HostShare& own);

  /// Whether nothing waits on this GPU for this rank, so that what peers have freed can be closed, which
  /// waits for the GPU. Asked only if a peer has published something.
  using IsIdle = std::function<bool()>;

  /// Says in `offer` where its buffers lie, and what is mapped of the peers.
  void describe(DeviceOffer& offer, std::size_t in_bytes, std::size_t out_bytes, const IsIdle& is_idle);

 private:
  /// What cudaMalloc gave. Another allocation may begin at the same address later; it has another identity.
  struct Allocation {
    std::uintptr_t base;
    std::uint64_t identity;
  };
  /// One that this process has published. A chunk that has another handle is another one.
  struct SharedChunk {
    Chunk chunk;            ///< nothing, once its run is gone
    Descriptor descriptor;  ///< until all peers have got it
  };
  /// Of one rank of another process.
  struct Mapped {
    std::vector<PeerMemory> allocations;         ///< in the peer's order; null: it has been freed
    unsigned failures = 0;                       ///< to open the next one, in a row
    unsigned calls = 0;                          ///< since the last attempt
    std::vector<Descriptor> arrived;             ///< of the chunks of the next run
    std::vector<std::optional<MappedRun>> runs;  ///< in the peer's order; nothing: it is gone
    std::uint64_t sent = 0;                      ///< of this rank's runs, to that one
  };

  BufferPlace place_of(const void* memory, std::size_t bytes);
  static std::optional<Allocation> allocation_of(const void* memory);
  std::uint32_t number_of(const Allocation& allocation);
  void mark_what_is_gone();
  BufferPlace place_in_run(const void* memory, std::size_t bytes);
  std::uint32_t number_of_run(std::vector<Chunk> chunks);
  void map_new_allocations(std::size_t peer, const IsIdle& is_idle);
  void forget_runs_that_are_gone();
  void send_new_runs();
  void map_new_runs(std::size_t peer, const IsIdle& is_idle);

  GpuBlockTable* tables_;
  std::size_t rank_;
  std::vector<bool> is_near_;
  HostShare* own_;
  Post post_;
  std::map<std::uint64_t, std::uint32_t> numbers_;  ///< by CUDA's identity; 0: cannot be shared
  std::vector<Allocation> published_;               ///< as in the table
  std::vector<SharedChunk> chunks_;                 ///< as in the table
  bool has_sent_all_ = true;                        ///< of these
  std::vector<Mapped> mapped_;                      ///< by rank
};

}  // namespace ringtree
