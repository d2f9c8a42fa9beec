// The CUDA fabric as the rest sees it. It lies in a library of its own, which is loaded when the first array
// on a GPU comes along: machines without one need none of CUDA's files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

class Transport;

/// One collective in the words of all its ranks. Sizes are in bytes.
struct GpuTask {
  std::uint8_t algorithm = 0;  ///< index in the catalogue
  int fallback = -1;  ///< runs if that cannot, because some rank's buffer is out of reach; -1: there is none
  std::uint64_t digest = 0, sequence = 0;
  double timeout_seconds = 0;
  std::size_t in_bytes = 0, out_bytes = 0;
  std::size_t share = 0;                                 ///< of each rank, where all are equal
  std::vector<std::size_t> in_offsets{}, out_offsets{};  ///< of the shares, world + 1, where they are not
  int root = 0;
  DType dtype = DType::uint8;
  ReduceOp op = ReduceOp::sum;
  bool has_result = true;  ///< on this rank: the output may be written
  double factor = 1;       ///< of premul_sum: what this rank's contribution is multiplied with
  /// Up to so many bytes it goes in packets, if there are any; nothing: as the fabric has it.
  std::optional<std::size_t> packet_bytes{};
};

/// One direction of one message.
struct GpuLetter {
  void* data;  ///< only read if it is sent
  std::size_t bytes;
  std::uint64_t digest;  ///< the same as its counterpart's
  int peer;
};

/// Of one communicator.
inline constexpr int kMaxGpuRanks = 16;

/// What one kernel sends and receives.
inline constexpr std::size_t kMaxGpuLetters = 64;

/// Calls that send and receive are numbered apart from collectives, with this bit.
inline constexpr std::uint64_t kGpuMessage = std::uint64_t{1} << 63U;

struct GpuBuffers {
  const void* in;
  void* out;
};

/// A CUDA stream, as Python libraries pass it around. 0 is the one that all threads of a process share.
using GpuStream = std::uintptr_t;

/// Where a call is enqueued.
struct GpuPlace {
  int device;  ///< -1: the one that its arrays are on
  GpuStream stream;
};

/// Of the newest call that went wrong on the device.
struct GpuFault {
  enum Kind { none, timeout, mismatch };

  Kind kind;
  int peer;  ///< whom the rank was waiting for, or with whom it disagrees
  std::uint64_t sequence;
  std::uint64_t sent;  ///< if messages disagree: the digest of the peer's
};

/// What the kernels of a rank have told.
struct GpuProgress {
  std::uint64_t begun, ended;       ///< kernels, those of replayed graphs too
  std::uint64_t ended_together;     ///< of them those of collectives, which every rank runs
  std::uint64_t newest;             ///< sequence number of the call that began last
  std::uint64_t finished;           ///< the largest sequence number of a collective that is over
  std::uint64_t finished_messages;  ///< and of messages

  bool runs() const { return begun != ended; }
};

/// The memory that a rank of another process lets its peers map: in memory that their hosts share, filled
/// from the front. Each kind of block is numbered for itself, so that ranks that cannot map the one still map
/// the other.
struct GpuBlockTable {
  static constexpr std::size_t kBlocks = 256, kRuns = 256;
  static constexpr std::size_t kChunks = 1024;  ///< of all runs

  /// What cudaMalloc gave.
  struct Entry {
    char handle[64];        ///< of CUDA IPC
    std::uint32_t is_gone;  ///< it has been freed, as its owner saw when it published another one
  };
  /// Of memory that cuMemCreate gave.
  struct Chunk {
    std::uint64_t bytes;
  };
  /// Chunks that lie one behind the other: entries of `chunks` from `first` on. The owner sends descriptors
  /// of them to each peer, one message a run.
  struct Run {
    std::uint32_t first, chunks;
    std::uint32_t is_gone;  ///< all of them, as in Entry
  };

  std::uint64_t count;  ///< of entries that are complete
  Entry entries[kBlocks];
  std::uint64_t run_count;  ///< of runs that are complete, with their chunks
  Run runs[kRuns];
  Chunk chunks[kChunks];
};

/// The words of all ranks, by rank, for those of this one. Collective.
using GpuExchange = std::function<std::vector<std::string>(const std::string&)>;

/// One rank's end of the fabric of a communicator.
class Gpu {
 public:
  virtual ~Gpu() = default;

  virtual int device() const = 0;
  /// What one peer's share of a slot holds: see Priced.
  virtual std::size_t piece_bytes() const = 0;
  /// Bytes of the GPU's memory that it keeps.
  virtual std::size_t bytes() const = 0;
  /// Whether messages go through memory of the host, because some GPU cannot reach that of another. Then no
  /// call uses its peers' arrays.
  virtual bool is_staged() const = 0;
  /// How messages travel, in words: `lines up to 256 KiB`.
  virtual std::string protocol() const = 0;
  /// The most thread blocks of one call, for each rank.
  virtual int channels() const = 0;

  /// From now on ranks of other processes use each other's arrays themselves, where an algorithm does that:
  /// `tables` has one entry a rank, and outlives this. Collective.
  virtual void share_blocks(GpuBlockTable* tables, const GpuExchange& exchange) = 0;

  /// Enqueues a call, behind all earlier ones whatever their stream was. Nothing waits. False: the stream is
  /// being captured, so that the call runs when the graph does. Throws TransportError.
  virtual bool launch(const GpuTask& task, const GpuBuffers& buffers, GpuStream stream) = 0;

  /// Enqueues what sends `outgoing` and receives `incoming` side by side, like a call. Letters of one
  /// direction between two ranks keep their order.
  virtual bool exchange(const std::vector<GpuLetter>& outgoing, const std::vector<GpuLetter>& incoming,
                        std::uint64_t sequence, double timeout_seconds, GpuStream stream) = 0;

  virtual GpuFault fault() const = 0;
  virtual GpuProgress progress() const = 0;
  /// Ends the waits of all kernels that are under way, and of all later ones.
  virtual void give_up() = 0;
};

/// Several ranks that exist on one GPU only, launched together: to try and to measure kernels.
class VirtualRanks {
 public:
  virtual ~VirtualRanks() = default;

  virtual int world() const = 0;
  virtual std::size_t piece_bytes() const = 0;
  virtual std::string protocol() const = 0;
  virtual int channels() const = 0;
  /// Enqueues one call of all ranks; `buffers` has an entry a rank.
  virtual void launch(const GpuTask& task, const std::vector<GpuBuffers>& buffers, GpuStream stream) = 0;
  virtual GpuFault fault() const = 0;
};

class GpuProbe;

/// What the library offers. All of it throws TransportError.
class GpuLibrary {
 public:
  using Exchange = GpuExchange;

  virtual ~GpuLibrary() = default;

  virtual int devices() const = 0;
  /// "NVIDIA H100 80GB HBM3, CUDA 13.0, driver 13.0".
  virtual std::string describe(int device) const = 0;
  /// Whose memory this is; -1: of none. Of a null pointer, the calling thread's.
  virtual int device_of(const void* memory) const = 0;

  /// Collective: exchanges three times, or up to three times more to stage, and fails on all ranks if it
  /// fails on one. `transport` has the memory of the host that ranks of several processes need for that.
  virtual std::unique_ptr<Gpu> open(int device, int rank, int world, const Exchange& exchange,
                                    Transport& transport) = 0;
  virtual std::unique_ptr<VirtualRanks> open_virtual(int world) = 0;

  /// What to allocate for an array of so many bytes, so that peers can map it.
  virtual std::size_t room_for(std::size_t bytes) const = 0;
  /// Memory of the calling thread's device that peers can map, all zero. Freed, it serves the next array once
  /// what the freeing thread's stream holds is over, and what communicators have been asked for.
  virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
  /// Between host and device, either way; waits for what the stream holds, and until it is done.
  virtual void copy_and_wait(void* to, const void* from, std::size_t bytes, GpuStream stream) = 0;

  /// For measurements: core/gpu_probe.h.
  virtual GpuProbe& probe() = 0;
};

/// Loads the library, once. Throws TransportError, which says why there is none.
GpuLibrary& gpu_library();

/// What the library exports under the name "ringtree_gpu_library".
using GpuLibraryEntry = GpuLibrary* (*)();

}  // namespace ringtree
