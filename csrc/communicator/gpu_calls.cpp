#include "communicator/gpu_calls.h"

#include <algorithm>
#include <chrono>
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

}  // namespace

GpuCalls::GpuCalls(Segment& segment, const Liveness& liveness, const std::string& transport, int device,
                   int rank, const std::atomic<double>& timeout_seconds, const GpuLibrary::Exchange& exchange)
    : segment_(&segment),
      liveness_(&liveness),
      rank_(rank),
      timeout_seconds_(&timeout_seconds),
      gpu_(gpu_library().open(device, rank, segment.world(), exchange)),
      reaching_(Pricing::of_gpu(segment.world(), gpu_->piece_bytes(), true)),
      staged_(Pricing::of_gpu(segment.world(), gpu_->piece_bytes(), false)) {
  if (transport != "threads" && segment.world() > 1) share_tables(transport, exchange);
  watcher_ = std::thread([this] { watch(); });
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
  gpu_->share_blocks(reinterpret_cast<GpuBlockTable*>(tables_->data()));
}

GpuCalls::~GpuCalls() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  ends_.notify_all();
  watcher_.join();
}

std::pair<std::uint8_t, int> GpuCalls::choose(Collective collective, const std::string& algorithm,
                                              std::size_t bytes, bool even) const {
  const std::uint8_t chosen =
      algorithm == "auto" ? reaching_.choose(collective, bytes, even) : find_algorithm(collective, algorithm);
  const HostEntry& entry = catalogue()[chosen];
  if (entry.host_only)
    throw InvalidArgument(std::string("the algorithm '") + entry.name + "' has no kernel for GPUs");
  return {chosen, entry.access == Access::none ? -1 : staged_.choose(collective, bytes, even)};
}

void GpuCalls::prefer(Collective collective, std::vector<Rule> rules) {
  reaching_.prefer(collective, std::move(rules));
}

void GpuCalls::force(Collective collective, std::uint8_t algorithm) {
  if (!catalogue()[algorithm].host_only) reaching_.force(collective, algorithm);
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
  on_gpu.dtype = static_cast<DType>(call.dtype);
  const void* const in = collective == Collective::broadcast ? task.out : task.in;
  if (gpu_->launch(on_gpu, {in, task.out}, stream)) launched_.store(call.sequence, std::memory_order_release);
}

void GpuCalls::wait(double seconds) const {
  const Clock::time_point deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (;;) {
    // Read before the faults: kernels that give up have raised theirs by the time they are over.
    const bool idle = is_idle(gpu_->progress());
    if (const GpuFault fault = gpu_->fault(); fault.kind != GpuFault::none) tell(fault);
    if (has_fault(*segment_)) throw_fault(*segment_, rank_, "synchronize");
    if (idle) return;
    if (interrupted()) throw Interrupted();
    if (Clock::now() >= deadline)
      throw Timeout("rank " + std::to_string(rank_) + ", synchronize: the calls up to #" +
                    std::to_string(launched_.load(std::memory_order_acquire)) + " were not over after " +
                    format_seconds(seconds) + ". They go on, and the communicator stays usable: wait again.");
    std::this_thread::sleep_for(kNap);
  }
}

void GpuCalls::drain() const {
  const Clock::time_point deadline =
      Clock::now() +
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_seconds_->load()));
  const auto all_have_ended = [&] {
    const GpuProgress own = gpu_->progress();
    if (!is_idle(own)) return false;
    // All ranks run the same kernels, so who has run as many has no use for this rank's memory any more.
    for (int rank = 0; rank < segment_->world(); ++rank) {
      Board& board = segment_->board(rank);
      if (rank != rank_ && AtomicRef(board.ended_on_gpu).load(acquire) < own.ended &&
          AtomicRef(board.state).load(acquire) != Board::left)
        return false;
    }
    return true;
  };
  while (!has_fault(*segment_) && !all_have_ended() && Clock::now() < deadline)
    std::this_thread::sleep_for(kNap);
  gpu_->give_up();
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
  AtomicRef(segment_->board(rank_).ended_on_gpu).store(progress.ended, release);  // pairs with: drain()
  if (const GpuFault fault = gpu_->fault(); fault.kind != GpuFault::none && !has_fault(*segment_))
    tell(fault);
  if (progress.runs() && !has_fault(*segment_)) {
    const std::vector<int> died = liveness_->dead();
    if (!died.empty()) raise_death(*segment_, died, describe_call(progress.newest));
  }
  if (has_fault(*segment_)) gpu_->give_up();
}

/// Boards keep the newest calls alone, and a GPU may be far behind.
std::string GpuCalls::describe_call(std::uint64_t sequence) const {
  const std::optional<CallHeader> known = segment_->board(rank_).call(sequence);
  return known ? describe(*known) : "call #" + std::to_string(sequence) + " on the GPU";
}

/// Says what the device has found, in the words of the host, which knows the calls.
void GpuCalls::tell(const GpuFault& fault) const {
  const std::optional<CallHeader> known = segment_->board(rank_).call(fault.sequence);
  CallHeader unknown{};
  unknown.sequence = fault.sequence;
  const CallConcern concern(*segment_, rank_, known.value_or(unknown), fault.sequence);
  if (fault.kind == GpuFault::timeout) {
    concern.give_up(fault.peer, timeout_seconds_->load());
    return;
  }
  if (known) concern.check_agreement();
  if (has_fault(*segment_)) return;
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, fault.peer},
              "in " + describe_call(fault.sequence) + " rank " + std::to_string(fault.peer) +
                  " sent a piece that does not belong to the call of rank " + std::to_string(rank_) +
                  ": they called different things, or gave different counts.");
}

}  // namespace ringtree
