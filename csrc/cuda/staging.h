// Links in memory of the host, for GPUs that do not all reach each other's memory. Kernels use them as they
// use those on GPUs: with the same loads and stores, which go over PCIe.
//
// Where all ranks are threads each has memory of CUDA's, which the kernels of all reach at the same address.
// Else there is one segment of the communicator's transport, a part for each rank, which every rank maps and
// shows to its GPU.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/gpu.h"
#include "cuda/introduction.h"
#include "cuda/runtime.h"
#include "transports/transport.h"

namespace ringtree {

class StagedLinks {
 public:
  /// `bytes` for each rank. Collective: exchanges once or twice, and throws on all ranks if it does on one.
  /// The segment has no name any more when this returns or throws.
  StagedLinks(const std::vector<Introduction>& ranks, int rank, std::size_t bytes,
              const GpuLibrary::Exchange& exchange, Transport& transport);

  /// By rank, as this one's kernels reach them.
  const std::vector<std::byte*>& memories() const { return memories_; }

  /// Nobody uses them any more.
  void keep_memory();

 private:
  void map_segment(std::size_t bytes, std::size_t world);

  std::size_t bytes_;
  HostMemory<std::byte> own_;            ///< if all ranks are threads of this process
  std::unique_ptr<Memory> segment_;      ///< if not
  RegisteredMemory<std::byte> on_gpus_;  ///< the segment, as long as GPUs may use it
  std::vector<std::byte*> memories_;
};

}  // namespace ringtree
