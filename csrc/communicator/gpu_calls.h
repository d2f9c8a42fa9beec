// A communicator's calls on a GPU: what runs them, and who watches over them while no thread of the host
// waits.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "communicator/choice.h"
#include "communicator/gpu_ahead.h"
#include "communicator/gpu_messages.h"
#include "communicator/host_entry.h"
#include "communicator/liveness.h"
#include "communicator/segment.h"
#include "core/gpu.h"
#include "transports/transport.h"

namespace ringtree {

class GpuCalls {
 public:
  /// Collective: opens the fabric.
  GpuCalls(Segment& segment, const Liveness& liveness, const std::string& transport, int device, int rank,
           const std::atomic<double>& timeout_seconds, const GpuLibrary::Exchange& exchange);
  GpuCalls(const GpuCalls&) = delete;
  GpuCalls& operator=(const GpuCalls&) = delete;
  ~GpuCalls();

  /// What runs a call, and what does if that cannot (-1: nothing): by the name that the user gave, or "auto".
  /// `bytes` as in Priced.
  std::pair<std::uint8_t, int> choose(Collective collective, const std::string& algorithm, std::size_t bytes,
                                      bool even) const;
  void prefer(Collective collective, std::vector<Rule> rules);
  /// Calls of a collective of up to so many bytes go in packets; nothing: as the fabric has it.
  void prefer_packets(Collective collective, std::optional<std::size_t> bytes);
  void force(Collective collective, std::uint8_t algorithm);
  int device() const { return gpu_->device(); }
  std::string protocol() const { return gpu_->protocol(); }
  int channels() const { return gpu_->channels(); }
  bool is_staged() const { return gpu_->is_staged(); }

  /// Enqueues a call that has been entered on the board.
  void launch(const CallHeader& call, const Task& task, GpuTask on_gpu, std::size_t unit, GpuStream stream);

  /// Enqueues what sends and receives the letters of one call, at most kMaxGpuLetters.
  void exchange(const std::vector<Letter>& letters, double timeout_seconds, GpuStream stream);

  /// Returns when all calls are over that have been launched. Throws what went wrong with them, if something
  /// did. `seconds`: Timeout after that time.
  void wait(double seconds) const;

  /// Raises what kernels have told so far, which the watcher might see a moment later.
  void notice() const;

  /// Until neither this rank nor a peer touches the memory of another any more, or that is hopeless.
  void drain() const;

  /// For those that are still there when the process ends. CUDA then takes the memory away in which kernels
  /// report, and answers no call any more: nobody may look there after this, nor give anything back.
  class Living;

 private:
  void wait_if_far_ahead();
  void note_launch(std::atomic<std::uint64_t>& newest, std::uint64_t sequence);
  void share_tables(const std::string& transport, const GpuLibrary::Exchange& exchange);
  void watch();
  void stop_watching();
  void look();
  void tell(const GpuFault& fault) const;
  void check_agreement() const;
  std::vector<int> gone_before(std::uint64_t newest) const;
  bool has_left(int rank) const;
  std::string describe_call(std::uint64_t sequence) const;
  bool is_needed(int rank, std::uint64_t newest) const;
  bool is_idle(const GpuProgress& progress) const {
    return !progress.runs() && progress.finished >= launched_.load(std::memory_order_acquire) &&
           progress.finished_messages >= sent_.load(std::memory_order_acquire);
  }

  Segment* segment_;
  const Liveness* liveness_;
  int rank_;
  const std::atomic<double>* timeout_seconds_;
  std::unique_ptr<Memory> tables_;  ///< of blocks, if the ranks are processes
  std::unique_ptr<Gpu> gpu_;
  Choice choice_, fallback_;
  std::array<std::optional<std::size_t>, kCollectives> packet_bytes_{};  ///< what prefer_packets() was told
  mutable std::atomic<std::uint64_t> agreed_{0};  ///< up to this one all ranks have made the same calls
  std::atomic<std::uint64_t> launched_{0};  ///< sequence number of the newest collective that is in no graph
  std::atomic<std::uint64_t> sent_{0};      ///< and of the newest call of messages
  GpuMessages messages_;
  std::optional<GpuAhead> ahead_;  ///< if the ranks are threads

  std::mutex mutex_;
  std::condition_variable ends_;
  bool closing_ = false;
  std::thread watcher_;
};

}  // namespace ringtree
