// What a rank holds: the segment it shares with its peers, the order of its calls, and what it remembers of
// its links.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "communicator/call.h"
#include "communicator/choice.h"
#include "communicator/gpu_calls.h"
#include "communicator/host_entry.h"
#include "communicator/injection.h"
#include "communicator/liveness.h"
#include "communicator/mailbox.h"
#include "communicator/patience.h"
#include "communicator/reach.h"
#include "communicator/rendezvous.h"
#include "communicator/request.h"
#include "communicator/segment.h"
#include "communicator/survivors.h"
#include "communicator/work.h"
#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

class Communicator {
 public:
  /// Collective over all ranks. Throws InvalidArgument, TransportError or Timeout.
  Communicator(const std::string& transport, int rank, int world, double timeout_seconds,
               const Exchange& exchange);
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  ~Communicator();

  int rank() const { return rank_; }
  int world() const { return world_; }
  double timeout_seconds() const { return timeout_seconds_; }
  /// For waits that are under way, too.
  void set_timeout(double seconds) { timeout_seconds_ = seconds; }
  const std::string& transport() const { return transport_; }

  /// Runs a collective: in the caller's thread if it blocks and nothing is queued before it, else in the
  /// worker. `keep` lives until the call is finished. Returns nothing if it blocked.
  std::shared_ptr<Work> run(const Request& request, bool async, std::shared_ptr<void> keep);

  /// Enqueues a collective of arrays on a GPU, the same one in all calls. Nothing waits, except that the
  /// first such call opens the fabric, for which all ranks must come.
  void launch(const Request& request, GpuPlace place);
  /// Likewise the letters of one call, side by side.
  void exchange_on_gpu(const std::vector<Letter>& letters, GpuPlace place);
  /// The one of the first such call; -1: there has been none.
  int gpu_device();
  /// Returns when all launched calls are over; throws what went wrong with them.
  void synchronize();
  /// Throws what has gone wrong with any call so far.
  void throw_if_failed() const;

  std::shared_ptr<Work> exchange(const std::vector<Letter>& letters, bool async, std::shared_ptr<void> keep);

  /// Of exchange(): see Mailbox.
  bool withdraw(const Work& work);
  void move_for_a_while(const std::function<bool()>& over);

  /// From now on faults strike, as csrc/communicator/injection.h says. Not for groups that are split off.
  void inject(const std::string& faults);

  /// What "auto" takes for even shares.
  std::string chosen(const std::string& collective, std::size_t bytes) const;
  /// Likewise of arrays on a GPU. Throws InvalidArgument before the first call on one.
  std::string chosen_on_gpu(const std::string& collective, std::size_t bytes);

  /// Whether messages between GPUs go through memory of the host. Throws as chosen_on_gpu().
  bool staged();
  /// How they travel: see Gpu::protocol(). Throws likewise.
  std::string protocol();
  /// See Gpu::channels(). Throws likewise.
  int channels();
  using NamedRules = std::vector<std::pair<std::size_t, std::string>>;
  void prefer(const std::string& collective, const NamedRules& rules);
  void prefer_on_gpu(const std::string& collective, const NamedRules& rules);
  /// Up to how many bytes such calls go in packets, unless RINGTREE_GPU_PROTOCOL says it; nothing: as many as
  /// by default. The same on all ranks. Returns what held before.
  std::optional<std::size_t> packets_on_gpu(const std::string& collective, std::optional<std::size_t> bytes);
  void force(const std::string& collective, const std::string& algorithm);

  /// Ends every call that is under way on any rank with Aborted.
  void abort(const std::string& reason);

  /// The ranks that are left, of which each must call it, to open another communicator by means of
  /// exchange_with(). Ends what is under way on any rank. Again, if one of them died meanwhile.
  /// Whoever is in `without`, the same on all, does not call it, alive or not.
  std::vector<int> survivors(const std::vector<int>& without = {});
  std::vector<std::string> exchange_with(const std::vector<int>& members, const std::string& own);

  /// What the program calls this communicator, the same on all ranks; for those who look on. 63 bytes are
  /// kept.
  void set_label(const std::string& label);

  /// What all ranks do at this moment, as JSON (docs/debugging.md).
  std::string snapshot() const;

  /// Finishes what is queued, then leaves. A peer that still needs this rank gets RankFailure.
  void close();
  bool closed() const { return closed_; }

  /// Whether this is a forked child's copy of its parent's communicator.
  bool is_inherited() const;

 private:
  /// A checked request with all that was derived from it.
  struct Prepared {
    CallHeader header;
    Task task;
    DType dtype;
    ReduceOp op;
    double factor;
    std::vector<std::size_t> in_offsets, out_offsets;  ///< what the task's uneven chunks borrow
    bool chosen;                                       ///< not the user, but "auto" took the algorithm
    std::size_t bytes;                                 ///< as the cost model counts them
    double timeout_seconds;
    std::vector<Injection::Fault> faults{};  ///< that strike on its way
    std::string line{};                      ///< of the program, if the recorder wants it

    /// Bytes of what the task counts.
    std::size_t unit() const { return reduces(static_cast<Collective>(header.collective)) ? task.width : 1; }
  };
  struct Queued {
    Prepared call;
    std::shared_ptr<Work> work;
  };

  void check_usable(const std::string& call) const;
  Prepared prepare(const Request& request);
  void execute(Prepared& call, int spins);
  Exposed exposed(const Prepared& call) const;
  static void copy_alone(const Prepared& call);
  void scale_input(Prepared& call);
  void check_peer(const Letter& letter) const;
  void check_place(const std::string& call, const std::vector<const void*>& arrays, GpuPlace& place) const;
  void check_aligned(const std::string& call, const void* array, DType dtype) const;
  std::unique_lock<std::mutex> enter_gpu(const std::string& call, int device);
  [[noreturn]] void fail_on_gpu(const Error& error, const std::string& where);
  void check_has_kernel(const Request& request) const;
  void open_gpu(int device);
  void execute_between_calls(const Request& request);
  std::vector<std::string> exchange_in_call(const std::string& own);
  void settle(const CallConcern& concern, Solo& team, const CallHeader& call, bool saw_everyone);
  bool have_marked(Solo& team, std::uint64_t sequence);
  std::exception_ptr open_disagreement();
  void work_through_queue();
  bool finish_queue(bool interruptible);
  bool end_calls(bool interruptible);
  bool leave(bool interruptible);

  std::string transport_;
  int rank_, world_;
  std::atomic<double> timeout_seconds_;
  std::uint64_t fork_generation_;
  int spins_;
  std::atomic<bool> closed_{false};

  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Segment> segment_;
  std::unique_ptr<Liveness> liveness_;
  std::unique_ptr<Patience> patience_;
  bool notes_lines_;
  Reach reach_;
  std::unique_ptr<Mailbox> mailbox_;
  std::unique_ptr<GpuCalls> gpu_;
  std::array<std::vector<Rule>, kCollectives> gpu_rules_;               ///< what prefer_on_gpu() was told
  std::array<std::optional<std::size_t>, kCollectives> gpu_packets_{};  ///< and packets_on_gpu()
  Survivors survivors_;
  Choice choice_;
  std::unique_ptr<Injection> injection_;  ///< nothing, but in tests of programs

  std::vector<LaneCursor> sent_, received_;
  WindowCursor window_{};
  std::vector<const void*> sources_;
  std::vector<std::byte> scratch_;
  std::vector<SlotWays> ways_;
  std::shared_ptr<std::byte> scaled_;  ///< this rank's contribution to a premul_sum
  std::size_t scaled_bytes_ = 0;

  mutable std::shared_mutex
      mapped_;        ///< shared by those who use the segment beside the calls; leave() takes it alone
  std::mutex order_;  ///< guards what follows; held by whoever runs a call in its own thread
  std::uint64_t sequence_ = 0;
  std::uint64_t settled_ = 0;  ///< of the last call of which every rank is known to have made the same
  std::deque<Queued> queue_;   ///< its front is what the worker runs
  bool closing_ = false;
  std::condition_variable wanted_;
  std::unique_ptr<std::thread> worker_;
};

/// Leaks what a forked child has inherited: the parent's threads still wait, in the child's copy, on
/// condition variables whose destructors would wait for them.
struct CommunicatorDeleter {
  void operator()(Communicator* communicator) const {
    if (!communicator->is_inherited()) delete communicator;
  }
};

}  // namespace ringtree
