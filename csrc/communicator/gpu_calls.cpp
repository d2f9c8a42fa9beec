#include "communicator/gpu_calls.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <set>
#include <tuple>
#include <vector>

#include "communicator/call.h"
#include "communicator/fault.h"
#include "communicator/patience.h"
#include "core/errors.h"

namespace ringtree {
namespace {

using Clock = std::chrono::steady_clock;

/// How late a rank may learn that a peer has died, or that a call has failed elsewhere.
constexpr auto kBetweenLooks = std::chrono::milliseconds(20);

/// While a thread of the host waits for the GPU.
constexpr auto kNap = std::chrono::microseconds(50);

std::string describe_old(std::uint64_t sequence) {
  return "call #" + std::to_string(sequence) + " on the GPU";
}

/// Boards keep the newest calls alone, and a GPU may be far behind.
class OldCall : public CallConcern {
 public:
  OldCall(Segment& segment, int rank, std::uint64_t sequence, std::uint64_t first_open)
      : CallConcern(segment, rank, header(sequence), first_open), sequence_(sequence) {}

  std::string describe() const override { return describe_old(sequence_); }

 private:
  static CallHeader header(std::uint64_t sequence) {
    CallHeader unknown{};
    unknown.sequence = sequence;
    return unknown;
  }

  std::uint64_t sequence_;
};

}  // namespace

class GpuCalls::Living {
 public:
  static void add(GpuCalls* calls) {
    // Exit handlers run youngest first, and a fabric was opened before this: CUDA's come after it.
    static const pid_t process = getpid();
    static const int registered = std::atexit([] {
      if (getpid() == process) end();  // the watchers of a process that forked are not in its child
    });
    static_cast<void>(registered);
    Living& living = all();
    const std::lock_guard lock(living.mutex_);
    living.calls_.insert(calls);
  }

  static void remove(GpuCalls* calls) {
    Living& living = all();
    const std::lock_guard lock(living.mutex_);
    living.calls_.erase(calls);
  }

  static bool process_ends() { return all().process_ends_.load(std::memory_order_acquire); }

 private:
  /// Never destroyed.
  static Living& all() {
    static Living& all = *new Living;
    return all;
  }

  static void end() {
    Living& living = all();
    living.process_ends_.store(true, std::memory_order_release);
    const std::lock_guard lock(living.mutex_);
    for (GpuCalls* const calls : living.calls_) calls->stop_watching();
  }

  std::atomic<bool> process_ends_{false};
  std::mutex mutex_;  ///< guards:
  std::set<GpuCalls*> calls_;
};

GpuCalls::GpuCalls(Segment& segment, const Liveness& liveness, const std::string& transport, int device,
                   int rank, const std::atomic<double>& timeout_seconds, const GpuLibrary::Exchange& exchange)
    : segment_(&segment),
      liveness_(&liveness),
      rank_(rank),
      timeout_seconds_(&timeout_seconds),
      gpu_(gpu_library().open(device, rank, segment.world(), exchange, *make_transport(transport))),
      choice_(Pricing::of_gpu(segment.world(), gpu_->piece_bytes(),
                              gpu_->is_staged() ? Pricing::Reach::staged : Pricing::Reach::arrays)),
      fallback_(Pricing::of_gpu(segment.world(), gpu_->piece_bytes(),
                                gpu_->is_staged() ? Pricing::Reach::staged : Pricing::Reach::links)),
      messages_(segment, rank) {
  if (transport == "threads")
    ahead_.emplace();
  else if (segment.world() > 1)
    share_tables(transport, exchange);
  watcher_ = std::thread([this] { watch(); });
  Living::add(this);
}

/// Where ranks find the blocks that their peers let them map: memory of the same transport as all else.
void GpuCalls::share_tables(const std::string& name, const GpuLibrary::Exchange& exchange) {
  constexpr std::size_t kLongestName = 255;
  const std::unique_ptr<Transport> transport = make_transport(name);
  const std::size_t bytes = static_cast<std::size_t>(segment_->world()) * sizeof(GpuBlockTable);
  std::string own(kLongestName, '\0');
  if (rank_ == 0) {
    std::string created;
    std::tie(created, tables_) = transport->create(bytes);
    std::copy(created.begin(), created.end(), own.begin());
  }
  const std::string given = exchange(own)[0].c_str();  // up to the first zero byte
  if (rank_ != 0) tables_ = transport->open(given, bytes);
  exchange(own);
  transport->forget(given);
  gpu_->share_blocks(reinterpret_cast<GpuBlockTable*>(tables_->data()), exchange);
}

GpuCalls::~GpuCalls() {
  Living::remove(this);
  stop_watching();
  if (Living::process_ends()) {
    [[maybe_unused]] const Gpu* const left_to_cuda = gpu_.release();
  }
}

void GpuCalls::stop_watching() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  ends_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

std::pair<std::uint8_t, int> GpuCalls::choose(Collective collective, const std::string& algorithm,
                                              std::size_t bytes, bool even) const {
  const std::uint8_t chosen =
      algorithm == "auto" ? choice_.choose(collective, bytes, even) : find_algorithm(collective, algorithm);
  return {chosen,
          catalogue()[chosen].access == Access::none ? -1 : fallback_.choose(collective, bytes, even)};
}

void GpuCalls::prefer(Collective collective, std::vector<Rule> rules) {
  choice_.prefer(collective, std::move(rules));
}

void GpuCalls::prefer_packets(Collective collective, std::optional<std::size_t> bytes) {
  packet_bytes_[static_cast<std::size_t>(collective)] = bytes;
}

void GpuCalls::force(Collective collective, std::uint8_t algorithm) {
  if (!catalogue()[algorithm].host_only) choice_.force(collective, algorithm);
}

void GpuCalls::wait_if_far_ahead() {
  const auto look = [this] { return gpu_->progress(); };
  while (ahead_ && ahead_->is_far(look) && gpu_->fault().kind == GpuFault::none && !has_fault(*segment_) &&
         !interrupted())
    std::this_thread::sleep_for(kNap);
}

/// Of a call that is in no graph.
void GpuCalls::note_launch(std::atomic<std::uint64_t>& newest, std::uint64_t sequence) {
  newest.store(sequence, std::memory_order_release);
  if (ahead_) ahead_->add(sequence);
}

void GpuCalls::launch(const CallHeader& call, const Task& task, GpuTask on_gpu, std::size_t unit,
                      GpuStream stream) {
  const auto offsets_of = [&](const Chunks& chunks, bool is_uneven) {
    std::vector<std::size_t> offsets;
    if (!is_uneven) return offsets;
    for (int rank = 0; rank < segment_->world(); ++rank) offsets.push_back(chunks.chunk(rank).begin * unit);
    offsets.push_back(chunks.count() * unit);
    return offsets;
  };
  const auto collective = static_cast<Collective>(call.collective);
  const bool cuts_input = collective == Collective::reduce_scatter || collective == Collective::scatter;
  const bool uneven = call.layout != 0, both = collective == Collective::all_to_all;
  on_gpu.digest = digest_of(call);
  on_gpu.sequence = call.sequence;
  on_gpu.in_bytes = task.in_count * unit;
  on_gpu.out_bytes = task.out_count * unit;
  on_gpu.share = call.count * size_of(static_cast<DType>(call.dtype));
  on_gpu.in_offsets = offsets_of(task.in_chunks, uneven && (both || cuts_input));
  on_gpu.out_offsets = offsets_of(task.out_chunks, uneven && (both || !cuts_input));
  on_gpu.root = task.root;
  on_gpu.packet_bytes = packet_bytes_[call.collective];
  on_gpu.has_result = collective != Collective::reduce || task.root == rank_;
  on_gpu.dtype = static_cast<DType>(call.dtype);
  const void* const in = collective == Collective::broadcast ? task.out : task.in;
  wait_if_far_ahead();
  if (gpu_->launch(on_gpu, {in, task.out}, stream)) note_launch(launched_, call.sequence);
}

void GpuCalls::exchange(const std::vector<Letter>& letters, double timeout_seconds, GpuStream stream) {
  std::vector<GpuLetter> outgoing, incoming;
  for (const Letter& letter : letters)
    (letter.outgoing ? outgoing : incoming)
        .push_back({letter.data, letter.bytes(), digest_of(letter), letter.peer});
  const std::uint64_t sequence = messages_.begin(letters);
  wait_if_far_ahead();
  if (gpu_->exchange(outgoing, incoming, sequence, timeout_seconds, stream)) note_launch(sent_, sequence);
}

void GpuCalls::wait(double seconds) const {
  const auto time = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  Clock::time_point deadline = Clock::now() + time;
  // The call that runs when the time is over. Its own will soon be, and it knows for whom it waits.
  std::optional<std::uint64_t> last;
  for (;;) {
    // Read before the faults: kernels that give up have raised theirs by the time they are over.
    const GpuProgress progress = gpu_->progress();
    const bool idle = is_idle(progress);
    if (idle) check_agreement();
    if (const GpuFault fault = gpu_->fault(); fault.kind != GpuFault::none) tell(fault);
    if (has_fault(*segment_)) throw_fault(*segment_, rank_, "synchronize");
    if (idle) return;
    if (interrupted()) throw Interrupted();
    const bool over = Clock::now() >= deadline, runs_last = progress.runs() && last == progress.newest;
    if (over && !last && progress.runs()) {
      last = progress.newest;
      deadline += time;
    } else if (over || (last && !runs_last))
      throw Timeout("rank " + std::to_string(rank_) + ", synchronize: the calls up to #" +
                    std::to_string(launched_.load(std::memory_order_acquire)) + " were not over after " +
                    format_seconds(seconds) + ". They go on, and the communicator stays usable: wait again.");
    std::this_thread::sleep_for(kNap);
  }
}

void GpuCalls::notice() const {
  if (const GpuFault fault = gpu_->fault(); fault.kind != GpuFault::none && !has_fault(*segment_))
    tell(fault);
}

void GpuCalls::drain() const {
  if (Living::process_ends()) return;
  const Clock::time_point deadline =
      Clock::now() +
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_seconds_->load()));
  const auto all_have_ended = [&] {
    const GpuProgress own = gpu_->progress();
    if (!is_idle(own)) return false;
    // All ranks run the same kernels, so who has run as many has no use for this rank's memory any more.
    for (int rank = 0; rank < segment_->world(); ++rank) {
      const std::uint64_t ended = AtomicRef(segment_->board(rank).ended_on_gpu).load(acquire);
      if (rank != rank_ && ended < own.ended_together && !has_left(rank)) return false;
    }
    return true;
  };
  while (!has_fault(*segment_) && !all_have_ended() && Clock::now() < deadline)
    std::this_thread::sleep_for(kNap);
  if (has_fault(*segment_) || !all_have_ended()) gpu_->give_up();
}

/// The host's part in failures: kernels cannot see that a process has died, and hosts do not wait for
/// kernels.
void GpuCalls::watch() {
  std::unique_lock lock(mutex_);
  while (!ends_.wait_for(lock, kBetweenLooks, [this] { return closing_; })) {
    lock.unlock();
    look();
    lock.lock();
  }
}

void GpuCalls::look() {
  const GpuProgress progress = gpu_->progress();
  AtomicRef(segment_->board(rank_).ended_on_gpu)
      .store(progress.ended_together, release);  // pairs with: drain()
  notice();
  if (!has_fault(*segment_)) check_agreement();
  messages_.end(progress.finished_messages);
  if (progress.runs() && !has_fault(*segment_)) {
    // The dead are read first: whoever has closed the communicator and then ended has left by then.
    std::vector<int> died = liveness_->dead();
    const std::vector<int> gone = gone_before(progress.newest);
    std::erase_if(died, [&](int rank) { return has_left(rank) || !is_needed(rank, progress.newest); });
    if (!gone.empty()) raise_departure(*segment_, gone, describe_call(progress.newest));
    if (!died.empty()) raise_death(*segment_, died, describe_call(progress.newest));
  }
  if (has_fault(*segment_)) gpu_->give_up();
}

/// Raises a fault if a peer has made another call than this rank. Kernels notice if they wait for one
/// another; but those of two algorithms may look in different places, and roots that differ wait for nobody.
void GpuCalls::check_agreement() const {
  const std::uint64_t newest = launched_.load(std::memory_order_acquire);
  const std::uint64_t kept = newest - std::min<std::uint64_t>(newest, Board::kCalls - 1);
  const std::uint64_t first = std::max(agreed_.load(std::memory_order_relaxed), kept) + 1;
  if (newest < first) return;
  std::uint64_t arrived = newest;
  for (int peer = 0; peer < segment_->world(); ++peer)
    arrived = std::min(arrived, AtomicRef(segment_->board(peer).arrived).load(acquire));
  OldCall(*segment_, rank_, newest, first).check_agreement();
  agreed_.store(arrived, std::memory_order_relaxed);
}

/// Ranks that have closed the communicator and never made the call.
std::vector<int> GpuCalls::gone_before(std::uint64_t newest) const {
  const bool is_message = (newest & kGpuMessage) != 0;
  std::vector<int> gone;
  for (int rank = 0; rank < segment_->world(); ++rank) {
    if (rank == rank_ || !has_left(rank)) continue;
    if (is_message ? messages_.lacks(newest, rank)
                   : AtomicRef(segment_->board(rank).done).load(acquire) < newest)
      gone.push_back(rank);
  }
  return gone;
}

/// By the call that began last.
bool GpuCalls::is_needed(int rank, std::uint64_t newest) const {
  return (newest & kGpuMessage) == 0 || messages_.needs(newest, rank);
}

bool GpuCalls::has_left(int rank) const {
  return AtomicRef(segment_->board(rank).state).load(acquire) == Board::left;
}

std::string GpuCalls::describe_call(std::uint64_t sequence) const {
  if ((sequence & kGpuMessage) != 0) return messages_.describe(sequence);
  const std::optional<CallHeader> known = segment_->board(rank_).call(sequence);
  return known ? describe(*known) : describe_old(sequence);
}

/// Says what the device has found, in the words of the host, which knows the calls.
void GpuCalls::tell(const GpuFault& fault) const {
  if ((fault.sequence & kGpuMessage) != 0) return messages_.tell(fault, timeout_seconds_->load());
  const std::optional<CallHeader> known = segment_->board(rank_).call(fault.sequence);
  const std::unique_ptr<const CallConcern> concern =
      known ? std::make_unique<const CallConcern>(*segment_, rank_, *known, fault.sequence)
            : std::make_unique<const OldCall>(*segment_, rank_, fault.sequence, fault.sequence);
  if (fault.kind == GpuFault::timeout) {
    concern->give_up(fault.peer, timeout_seconds_->load());
    return;
  }
  concern->check_agreement();
  if (has_fault(*segment_)) return;
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, fault.peer},
              "in " + describe_call(fault.sequence) + " rank " + std::to_string(fault.peer) +
                  " sent a piece that does not belong to the call of rank " + std::to_string(rank_) +
                  ": they called different things, or gave different counts.");
}

}  // namespace ringtree
