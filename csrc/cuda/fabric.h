// The GPU's end of a communicator: link memory on the device, the launch of kernels, and what they report.
//
// Usually it stands for one rank, whose peers are other processes or threads. Or for all ranks of a world
// that exists on one GPU only: virtual ranks, which one cooperative launch runs together.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/call.h"
#include "core/dtype.h"
#include "core/op.h"
#include "cuda/call.h"
#include "cuda/runtime.h"

namespace ringtree {

/// One call in the words of all its ranks. Sizes are in bytes.
struct DeviceTask {
  std::uint8_t algorithm;
  int fallback = -1;  ///< runs if that cannot, because some rank's buffer is out of reach; -1: none
  std::uint64_t digest = 0, sequence = 0;
  double timeout_seconds = 0;
  std::size_t in_bytes = 0, out_bytes = 0, share = 0;
  std::vector<std::size_t> in_offsets{}, out_offsets{};  ///< world + 1 of them where shares differ
  int root = 0;
  DType dtype = DType::uint8;
  ReduceOp op = ReduceOp::sum;
};

struct DeviceBuffers {
  const void* in;
  void* out;
};

/// How large a fabric is; the same on all ranks.
struct FabricShape {
  DeviceLayout layout;
  int lanes;  ///< threads of a block
};

class Fabric {
 public:
  using Exchange = std::function<std::vector<std::string>(const std::string&)>;

  /// One rank of `world`, on the calling thread's device. Collective: exchanges twice.
  static std::unique_ptr<Fabric> of_rank(int rank, int world, const Exchange& exchange);
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

  /// Enqueues one call; `buffers` has an entry for each of this end's ranks. Nothing waits, and nothing is
  /// allocated. Throws TransportError.
  void launch(const DeviceTask& task, std::span<const DeviceBuffers> buffers, cudaStream_t stream);

  /// What the kernels of this end's first rank have to say.
  DeviceFault& fault() { return host_share(0).fault; }
  /// Ends the waits of all kernels that are under way, and of all later ones.
  void give_up();

 private:
  struct Rank;

  Fabric(int device, int first_rank, const FabricShape& shape);
  void open_rank();
  void connect(const Exchange& exchange);
  HostShare& host_share(std::size_t local) const;
  dim3 grid_for(const DeviceTask& task) const;
  void launch_kernel(std::uint8_t algorithm, DeviceCall& call, dim3 grid, cudaStream_t stream) const;

  int device_;
  int first_rank_;
  FabricShape shape_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<PeerMemory> peers_;
};

/// What fits this device, if so many ranks share it and it is one of `world`.
FabricShape shape_for(int device, int world, int ranks_on_device);

}  // namespace ringtree
