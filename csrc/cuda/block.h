// The team of the device: one thread block, which works on one channel of a call.
//
// It never traps: after a fault each wait returns at once, the kernel runs out, and the host throws. What the
// buffers then hold is undefined, and the GPU is as good as before.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "cuda/copy.h"
#include "cuda/state.h"

namespace ringtree {

class Block {
 public:
  /// `timeout_ns` bounds each call from the moment at which its kernel starts. If an earlier call of `rank`
  /// has failed, this one gives up before it begins. Ends with join(): another block may fail meanwhile.
  __device__ Block(DeviceRank& rank, std::uint64_t sequence, std::uint64_t timeout_ns)
      : rank_(&rank),
        report_(&rank.host->report),
        sequence_(sequence),
        deadline_ns_(port_clock_ns() + timeout_ns),
        gave_up_(AtomicRef(rank.has_failed).load(relaxed) != 0) {
    join();
  }

  /// After a fault nobody speaks: peers would take for this rank's part what it has not computed.
  __device__ bool leads() const { return threadIdx.x == 0 && !gave_up_; }
  __device__ void sync() { __syncthreads(); }

  template <class Ready>
  __device__ void await(int peer, Ready ready) {
    if (leads())
      for (int look = 1; !ready(acquire); ++look) {
        if (look % kLooksBetweenFaultChecks == 0 && must_give_up(peer)) break;
        if (look > kLooksBeforeNaps) __nanosleep(20);
      }
    join();
  }

  /// One lane of the block, as what it waits for sees it: see apart().
  class Lane {
   public:
    __device__ explicit Lane(Block& block) : block_(&block) {}
    template <class Ready>
    __device__ void await(int peer, Ready ready) {
      block_->await_lane(peer, [&] { return ready(acquire); });
    }
    __device__ bool gave_up() const { return block_->gave_up(); }
    __device__ void disagree(int peer, std::uint64_t /*sent*/, std::uint64_t /*expected*/) {
      block_->disagree_alone(peer, 0);
    }

   private:
    Block* block_;
  };

  /// To wait for peers one after the other would take a load from memory for each.
  template <class Wait, class Use>
  __device__ void apart(int count, Wait wait, Use use) {
    Lane one(*this);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) wait(i, one);
    join();
    if (gave_up_) return;
    for (int i = 0; i < count; ++i) use(i);
  }

  /// By each lane on its own, for something of its own; false if the call has failed. Ends with join().
  template <class Ready>
  __device__ bool await_lane(int peer, Ready ready) {
    for (int look = 1; !gave_up_; ++look) {
      if (ready()) return true;
      if (look % kLooksBetweenFaultChecks == 0) must_give_up(peer);
      if (look > kLooksBeforeNaps) __nanosleep(20);
    }
    return false;
  }

  /// By a lane that has seen what others have not, the digest that `peer` has sent: join() tells them.
  __device__ void disagree_alone(int peer, std::uint64_t sent) {
    if (!gave_up_) give_up(DeviceReport::mismatch, peer, sent);
  }

  /// All lanes have come this far, and know alike whether the call has failed.
  __device__ void join() { gave_up_ = __syncthreads_or(gave_up_ ? 1 : 0) != 0; }

  /// Whether holds(i) for each i < count, of which every lane looks at some. The same on all lanes.
  template <class Holds>
  __device__ bool all_of(int count, Holds holds) {
    bool all = true;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
      all = all && holds(i);
    return __syncthreads_and(all ? 1 : 0) != 0;
  }

  __device__ void signal(int /*peer*/, std::uint64_t& word, std::uint64_t value) {
    __syncthreads();                                     // every lane has written before the leader publishes
    if (leads()) AtomicRef(word).store(value, release);  // pairs with: the acquire load in the peer's await
  }

  __device__ void signal_all(std::uint64_t& word, std::uint64_t value) { signal(0, word, value); }

  __device__ void disagree(int peer, std::uint64_t /*sent*/, std::uint64_t /*expected*/) {
    if (leads()) give_up(DeviceReport::mismatch, peer);
    gave_up_ = true;  // all lanes have seen the same header
  }

  /// The message that has come from `peer` is another one than this rank receives.
  __device__ void refuse(int peer, std::uint64_t sent) {
    if (leads()) give_up(DeviceReport::mismatch, peer, sent);
    gave_up_ = true;  // all lanes have seen the same header
  }

  /// Whether this call has failed: what peers have written is not to be trusted then. The same on all lanes.
  __device__ bool gave_up() const { return gave_up_; }

  template <class T>
  __device__ void copy(T* destination, const T* source, std::size_t count) {
    if (!gave_up_ && destination != source)
      copy_lanes(reinterpret_cast<std::byte*>(destination), reinterpret_cast<const std::byte*>(source),
                 count * sizeof(T));
  }

  /// A slot has one way here.
  struct OnlyWay {
    __device__ static constexpr bool roams() { return false; }
  };
  __device__ static OnlyWay way_to(int /*reader*/, std::size_t /*bytes*/) { return {}; }
  __device__ static OnlyWay way_to_all(std::size_t /*bytes*/) { return {}; }
  __device__ static OnlyWay combining_way_to(int /*reader*/, std::size_t /*bytes*/) { return {}; }
  __device__ static constexpr bool roams_to_any(std::size_t /*bytes*/) { return false; }
  template <class T>
  __device__ void put(OnlyWay /*way*/, T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }
  template <class T, class Op>
  __device__ void put_combined(OnlyWay /*way*/, T* destination, const void* const* sources, int n_sources,
                               std::size_t count, const Op& op) {
    combine(destination, sources, n_sources, count, op);
  }

  template <class T>
  __device__ void stream(T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }

  template <class T>
  __device__ void get(int /*peer*/, T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }

  /// destination = sources[0] op sources[1] op ..., in this order.
  template <class T, class Op>
  __device__ void combine(T* destination, const void* const* sources, int n_sources, std::size_t count,
                          const Op& op) {
    if (!gave_up_) op(destination, sources, n_sources, count * sizeof(T));
  }

 private:
  /// A flag of a rank on this GPU or its neighbour comes within a microsecond; then there is no hurry.
  static constexpr int kLooksBeforeNaps = 64;
  static constexpr int kLooksBetweenFaultChecks = 256;

  __device__ bool must_give_up(int peer) {
    gave_up_ = gave_up_ || is_over(rank_, report_, sequence_, deadline_ns_, peer);
    return gave_up_;
  }

  __device__ void give_up(DeviceReport::Kind kind, int peer, std::uint64_t sent = 0) {
    gave_up_ = true;
    tell(rank_, report_, sequence_, kind, peer, sent);
  }

  // What happens rarely, or never, stands apart, so that kernels are short.

  __device__ static bool is_over(DeviceRank* rank, DeviceReport* report, std::uint64_t sequence,
                                 std::uint64_t deadline_ns, int peer) {
    if (AtomicRef(report->raised).load(relaxed) != DeviceReport::none) return true;
    if (port_clock_ns() < deadline_ns) return false;
    tell(rank, report, sequence, DeviceReport::timeout, peer, 0);
    return true;
  }

  __device__ RT_NOINLINE static void tell(DeviceRank* rank, DeviceReport* report, std::uint64_t sequence,
                                          DeviceReport::Kind kind, int peer, std::uint64_t sent) {
    if (AtomicRef(report->raised).load(relaxed) != DeviceReport::none) return;
    if (atomicCAS(&rank->has_reported, 0U, 1U) != 0) return;
    AtomicRef(report->sent).store(sent, relaxed);
    AtomicRef(report->peer).store(static_cast<std::uint64_t>(peer), relaxed);
    AtomicRef(report->sequence).store(sequence, relaxed);
    AtomicRef(report->raised).store(kind, release);  // pairs with: the host's acquire load
  }

  DeviceRank* rank_;
  DeviceReport* report_;
  std::uint64_t sequence_;
  std::uint64_t deadline_ns_;
  bool gave_up_;
};

}  // namespace ringtree
