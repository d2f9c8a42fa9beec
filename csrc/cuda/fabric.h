// The GPU's end of a communicator: link memory on the device, the launch of kernels, and what they report.
//
// Usually it stands for one rank, whose peers are other processes or threads. Or for all ranks of a world
// that exists on one GPU only: virtual ranks, which one cooperative launch runs together.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/gpu.h"
#include "cuda/blocks.h"
#include "cuda/call.h"
#include "cuda/runtime.h"

namespace ringtree {

/// How large a fabric is; the same on all ranks.
struct FabricShape {
  DeviceLayout layout;
  int lanes;                 ///< threads of a block
  std::size_t packet_bytes;  ///< calls of up to so many bytes go in packets, where their algorithm can
  bool is_ordered = false;   ///< the user has said so: whatever a call prefers
};

struct Introduction;
struct Invitation;
class StagedLinks;

class Fabric {
 public:
  /// One rank of `world`, on the calling thread's device. Collective: see GpuLibrary::open().
  static std::unique_ptr<Fabric> of_rank(int rank, int world, const GpuLibrary::Exchange& exchange,
                                         Transport& transport);
  /// All ranks of a world, on the calling thread's device.
  static std::unique_ptr<Fabric> of_virtual_ranks(int world);
  static std::unique_ptr<Fabric> of_virtual_ranks(const FabricShape& shape);

  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;
  ~Fabric();

  int device() const { return device_; }
  int world() const { return shape_.layout.world; }
  const FabricShape& shape() const { return shape_; }
  /// Of GPU memory that this end owns.
  std::size_t bytes() const;
  /// Whether the links are in memory of the host.
  bool is_staged() const { return staged_ != nullptr; }

  /// For an end of one rank: see Gpu.
  void share_blocks(GpuBlockTable* tables, const GpuExchange& exchange);

  /// Enqueues one call; `buffers` has an entry for each of this end's ranks. Throws TransportError.
  void launch(const GpuTask& task, std::span<const GpuBuffers> buffers, cudaStream_t stream);

  /// For an end of one rank: see Gpu. At most kMaxGpuLetters.
  void exchange(const std::vector<GpuLetter>& outgoing, const std::vector<GpuLetter>& incoming,
                std::uint64_t sequence, double timeout_seconds, cudaStream_t stream);

  GpuFault fault() const;
  GpuProgress progress() const;
  void give_up();
  /// Whether no call has gone wrong, nor was given up.
  bool is_sound() const;
  /// This end's kernels are over, and so are its peers' that touch its memory: to end it takes no waiting.
  void have_ended() { has_ended_ = true; }

 private:
  struct Rank;

  Fabric(int device, int first_rank, const FabricShape& shape);
  bool connect(const std::vector<Introduction>& ranks, const GpuLibrary::Exchange& exchange);
  void connect_staged(const std::vector<Introduction>& ranks, const GpuLibrary::Exchange& exchange,
                      Transport& transport);
  bool is_idle(cudaStream_t stream) const;
  std::byte* reach(const Introduction& theirs, const Invitation& offer);
  HostShare& host_share(std::size_t local) const;
  DeviceCall call_of(const GpuTask& task, std::span<const GpuBuffers> buffers) const;
  void launch_kernel(std::size_t algorithm, DeviceCall& call, std::size_t packet_bytes,
                     cudaStream_t stream) const;

  int device_;
  int first_rank_;
  FabricShape shape_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::unique_ptr<StagedLinks> staged_;
  std::vector<PeerMemory> peers_;
  std::vector<bool> is_near_;  ///< by rank: whether it is of this process
  bool spans_gpus_ = false;    ///< whether some of those use another GPU
  std::unique_ptr<SharedBlocks> blocks_;
  std::uint64_t launched_ = 0, sent_ = 0;  ///< the newest call's number, and that of messages
  bool has_ended_ = false;
};

}  // namespace ringtree
