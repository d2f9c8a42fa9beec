#include "communicator/communicator.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <numeric>

#include "communicator/call_site.h"
#include "communicator/fault.h"
#include "communicator/snapshot.h"
#include "core/errors.h"

namespace ringtree {
namespace {

std::atomic<std::uint64_t> fork_generation{0};

std::uint64_t current_fork_generation() {
  static const bool registered = [] {
    pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
    return true;
  }();
  static_cast<void>(registered);
  return fork_generation.load(std::memory_order_relaxed);
}

std::uint64_t hash_of(const std::vector<std::size_t>& counts) {
  std::uint64_t hash = 1;
  for (const std::size_t count : counts) hash = (hash ^ count) * 0x9E3779B97F4A7C15U + 1;
  return hash | 1U;  // never 0, which stands for even shares
}

std::vector<std::size_t> offsets_of(const std::vector<std::size_t>& counts, std::size_t width) {
  std::vector<std::size_t> offsets(counts.size() + 1);
  for (std::size_t i = 0; i < counts.size(); ++i) offsets[i + 1] = offsets[i] + counts[i] * width;
  return offsets;
}

std::shared_ptr<Work> finished_work() {
  auto work = std::make_shared<Work>("", nullptr);
  work->finish(nullptr);
  return work;
}

/// What a call returns that was never made.
std::shared_ptr<Work> left_out(bool async) { return async ? finished_work() : nullptr; }

}  // namespace

Communicator::Communicator(const std::string& transport, int rank, int world, double timeout_seconds,
                           const Exchange& exchange)
    : transport_(transport),
      rank_(rank),
      world_(world),
      timeout_seconds_(timeout_seconds),
      fork_generation_(current_fork_generation()),
      spins_(spins_for(world)),
      memory_(join(transport, rank, world, timeout_seconds, exchange)),
      segment_(std::make_unique<Segment>(memory_->data(), world)),
      liveness_(std::make_unique<Liveness>(*segment_, rank)),
      patience_(std::make_unique<Patience>(*segment_, *liveness_, rank, timeout_seconds_)),
      notes_lines_(segment_->board(rank).recorder == Recorder::lines),
      reach_(*segment_, rank, transport == "threads"),
      mailbox_(std::make_unique<Mailbox>(*segment_, *liveness_, reach_, rank, timeout_seconds_)),
      survivors_(*segment_, *liveness_, rank, timeout_seconds_),
      choice_(Pricing::of_host(segment_->layout(), is_oversubscribed(world))),
      sent_(static_cast<std::size_t>(world)),
      received_(static_cast<std::size_t>(world)),
      sources_(static_cast<std::size_t>(world)),
      scratch_(segment_->layout().lane.slot_bytes),
      ways_(static_cast<std::size_t>(world), SlotWays(segment_->layout().window.rooms > 1)) {
  segment_->prepare_to_write(rank);
}

Communicator::~Communicator() { leave(false); }

std::shared_ptr<Work> Communicator::run(const Request& request, bool async, std::shared_ptr<void> keep) {
  check_usable(request.name());
  check(request, rank_, world_);
  std::vector<Injection::Fault> faults;
  if (injection_) {
    Injection::Fate fate = injection_->call(request.name());
    if (fate.is_dropped) return left_out(async);
    faults = std::move(fate.middle);
  }
  std::string line;
  if (notes_lines_) line = call_site();  // before any lock: it waits for Python's

  std::unique_lock order(order_, std::try_to_lock);
  if (!async && order.owns_lock() && queue_.empty()) {
    check_usable(request.name());  // it may have been closed meanwhile
    Prepared call = prepare(request);
    call.faults = std::move(faults);
    call.line = std::move(line);
    execute(call, spins_);
    return nullptr;
  }
  if (!order.owns_lock()) order.lock();
  check_usable(request.name());
  queue_.push_back({prepare(request), nullptr});
  queue_.back().call.faults = std::move(faults);
  queue_.back().call.line = std::move(line);
  auto work = std::make_shared<Work>(
      "rank " + std::to_string(rank_) + ", " + describe(queue_.back().call.header), std::move(keep));
  queue_.back().work = work;
  if (!worker_) worker_ = std::make_unique<std::thread>([this] { work_through_queue(); });
  order.unlock();
  wanted_.notify_one();
  if (async) return work;

  try {
    work->wait();
  } catch (const Interrupted&) {
    abort("interrupted (Ctrl-C)");
    throw;
  }
  return nullptr;
}

std::shared_ptr<Work> Communicator::exchange(const std::vector<Letter>& letters, bool async,
                                             std::shared_ptr<void> keep) {
  for (const Letter& letter : letters) check_peer(letter);
  if (injection_)
    for (const Letter& letter : letters)
      if (injection_->call(letter.name()).is_dropped) return left_out(async);
  std::shared_ptr<Work> work = mailbox_->exchange(letters, !async, std::move(keep));
  return async && !work ? finished_work() : work;
}

void Communicator::check_peer(const Letter& letter) const {
  check_usable(letter.name());
  if (letter.peer < 0 || letter.peer >= world_ || letter.peer == rank_)
    throw InvalidArgument(refusal(rank_, letter.name(),
                                  "the peer must be another rank of this world of " + std::to_string(world_) +
                                      ", not " + std::to_string(letter.peer)));
}

bool Communicator::withdraw(const Work& work) { return mailbox_->withdraw(work); }

void Communicator::move_for_a_while(const std::function<bool()>& over) { mailbox_->move_for_a_while(over); }

void Communicator::inject(const std::string& faults) {
  injection_ = std::make_unique<Injection>(faults, rank_, world_);
}

std::string Communicator::chosen(const std::string& collective, std::size_t bytes) const {
  return catalogue()[choice_.choose(find_collective(collective), bytes, true)].name;
}

void Communicator::prefer(const std::string& collective, const NamedRules& rules) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  choice_.prefer(which, find_rules(which, rules));
}

void Communicator::force(const std::string& collective, const std::string& algorithm) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  choice_.force(which, find_algorithm(which, algorithm));
  if (gpu_) gpu_->force(which, find_algorithm(which, algorithm));
}

void Communicator::abort(const std::string& reason) {
  const std::shared_lock mapped(mapped_);
  check_usable("abort");
  raise_fault(*segment_, ErrorKind::Aborted, {rank_},
              "rank " + std::to_string(rank_) + " aborted the communicator: " + reason + ".");
}

std::vector<int> Communicator::survivors(const std::vector<int>& without) {
  const std::shared_lock mapped(mapped_);
  check_usable("shrink");
  if (!has_fault(*segment_))
    raise_fault(*segment_, ErrorKind::Aborted, {rank_},
                "rank " + std::to_string(rank_) + " gave the communicator up in shrink().");
  if (!end_calls(true)) throw Interrupted();
  return survivors_.agree(without);
}

std::vector<std::string> Communicator::exchange_with(const std::vector<int>& members,
                                                     const std::string& own) {
  const std::shared_lock mapped(mapped_);
  check_usable("shrink");
  return survivors_.exchange(members, own);
}

void Communicator::set_label(const std::string& label) {
  const std::shared_lock mapped(mapped_);
  check_usable("set_label");
  if (rank_ != 0) return;
  std::array<char, 64>& kept = segment_->hall().label;
  std::copy_n(label.begin(), std::min(label.size(), kept.size() - 1), kept.begin());
}

std::string Communicator::snapshot() const {
  const std::shared_lock mapped(mapped_);
  check_usable("snapshot");
  return ringtree::snapshot(*segment_, rank_);
}

bool Communicator::is_inherited() const { return fork_generation_ != current_fork_generation(); }

void Communicator::close() {
  if (!leave(true)) throw Interrupted();
}

/// Gives back the memory and the descriptors too: a closed communicator may be referred to for long, by the
/// traceback of an error for example. False: Ctrl-C ended the wait for what was queued.
bool Communicator::leave(bool interruptible) {
  if (closed_.exchange(true)) return true;
  if (is_inherited()) return true;  // the threads and the seat belong to the parent
  const bool finished = end_calls(interruptible);
  const std::unique_lock mapped(mapped_);
  const std::exception_ptr disagreement = interruptible ? open_disagreement() : nullptr;
  if (gpu_) gpu_->drain();
  AtomicRef(segment_->board(rank_).state).store(Board::left, release);
  segment_->ring_everyone();
  gpu_.reset();
  liveness_.reset();
  reach_.forget();
  memory_.reset();
  if (disagreement) std::rethrow_exception(disagreement);
  return finished;
}

/// Returns when no thread of this rank is in a call. False: Ctrl-C ended the wait for what was queued.
bool Communicator::end_calls(bool interruptible) {
  const bool finished = finish_queue(interruptible);
  if (worker_) worker_->join();
  worker_.reset();
  mailbox_->close();
  return finished;
}

/// Tells the worker to end after what is queued, and waits for that. False: Ctrl-C ended it.
bool Communicator::finish_queue(bool interruptible) {
  constexpr auto kBetweenInterruptChecks = std::chrono::milliseconds(20);
  std::unique_lock order(order_);
  closing_ = true;
  wanted_.notify_all();
  while (!wanted_.wait_for(order, kBetweenInterruptChecks, [this] { return queue_.empty(); })) {
    order.unlock();
    const bool ended = interruptible && interrupted();
    if (ended)
      raise_fault(
          *segment_, ErrorKind::Aborted, {rank_},
          "rank " + std::to_string(rank_) + " aborted the communicator: interrupted (Ctrl-C) in close().");
    order.lock();
    if (ended) return false;
  }
  return true;
}

void Communicator::check_usable(const std::string& call) const {
  if (is_inherited())
    throw InvalidArgument(
        refusal(rank_, call,
                "this communicator belongs to the process that forked this one; create a new "
                "one in the child"));
  if (closed_) throw InvalidArgument(refusal(rank_, call, "this communicator is closed"));
}

/// Under `order_`: gives the request its place in the sequence.
Communicator::Prepared Communicator::prepare(const Request& request) {
  const std::size_t width = size_of(request.dtype), share = request.count * width;
  const bool even = request.is_even();
  const bool chosen = request.algorithm == "auto";
  const std::size_t bytes = request.priced_bytes(world_);
  const std::uint8_t algorithm = chosen ? choice_.choose(request.collective, bytes, even)
                                        : find_algorithm(request.collective, request.algorithm);
  if (!even && catalogue()[algorithm].even_only)
    throw InvalidArgument(refusal(rank_, request.name(),
                                  "the algorithm '" + request.algorithm + "' needs shares of equal size"));

  Prepared call{{},
                {request.in, request.out, request.count, request.count, width,
                 Chunks::equal(request.count, world_), Chunks::equal(request.count, world_), request.root,
                 Reduction(request.dtype, request.reduces() ? request.op : ReduceOp::sum, world_)},
                request.dtype,
                request.op,
                request.factor,
                {},
                {},
                chosen && !choice_.is_forced(request.collective),
                bytes,
                request.timeout_seconds};
  Task& task = call.task;
  const std::size_t unit =
      request.reduces() ? 1 : width;  // elements where they are computed with, else bytes
  if (!request.in_counts.empty()) call.in_offsets = offsets_of(request.in_counts, unit);
  if (!request.out_counts.empty()) call.out_offsets = offsets_of(request.out_counts, unit);
  const Chunks shares = Chunks::equal(request.count * unit, world_);
  task.in_chunks = call.in_offsets.empty() ? shares : Chunks::at(call.in_offsets.data(), world_);
  task.out_chunks = call.out_offsets.empty() ? shares : Chunks::at(call.out_offsets.data(), world_);
  switch (request.collective) {
    case Collective::broadcast: task.out_count = share; break;
    case Collective::all_gather:
    case Collective::gather:
      task.in_count = task.out_chunks.chunk(rank_).size;
      task.out_count = task.out_chunks.count();
      break;
    case Collective::reduce_scatter:
    case Collective::scatter:
      task.in_count = task.in_chunks.count();
      task.out_count = task.in_chunks.chunk(rank_).size;
      break;
    case Collective::all_to_all:
      task.in_count = task.in_chunks.count();
      task.out_count = task.out_chunks.count();
      break;
    default: break;
  }

  CallHeader& header = call.header;
  header.sequence = ++sequence_;
  header.count = request.count;
  // What each pair of an uneven all-to-all exchanges is known to that pair alone.
  header.layout = even ? 0
                  : request.collective == Collective::all_to_all
                      ? 1
                      : hash_of(request.in_counts.empty() ? request.out_counts : request.in_counts);
  header.collective = static_cast<std::uint8_t>(request.collective);
  header.dtype = static_cast<std::uint8_t>(request.dtype);
  header.op = request.reduces() ? static_cast<std::uint8_t>(request.op) : std::uint8_t{0};
  header.algorithm = algorithm;
  header.root = request.has_root() ? request.root : 0;
  return call;
}

void Communicator::execute(Prepared& call, int spins) {
  Board& board = segment_->board(rank_);
  CallHeader& header = call.header;
  if (call.chosen && world_ > 1 && reach_.is_worth_asking(header, call.bytes))
    header.algorithm |= CallHeader::kOrZeroCopy;
  const CallConcern concern(*segment_, rank_, header, settled_ + 1);
  const std::uint64_t digest = digest_of(header);
  board.enter(header, digest, call.bytes, call.line);
  if (has_fault(*segment_)) throw_fault(*segment_, rank_, describe(header));
  if (call.op == ReduceOp::premul_sum) scale_input(call);
  if (world_ == 1) {
    for (const Injection::Fault& fault : call.faults) Injection::strike(fault);
    copy_alone(call);
    return board.leave(header, call.bytes, header.algorithm_index());
  }

  patience_->begin(concern, call.timeout_seconds);
  Ambush ambush(*patience_, call.faults, world_);
  const bool strikes = !call.faults.empty();
  Solo team(strikes ? static_cast<Waiter&>(ambush) : *patience_, segment_->doorbells(), rank_, world_,
            strikes ? 0 : spins, call.task.out_count * call.unit(), ways_.data());
  const LinkState state{sent_.data(),    received_.data(), &window_,        sources_.data(),
                        scratch_.data(), reach_.inputs(),  reach_.outputs()};
  Links links(segment_->links(), segment_->layout(), state, digest, rank_);
  const HostEntry* algorithm = &catalogue()[header.algorithm_index()];
  const auto collective = static_cast<Collective>(header.collective);
  const bool must_reach = algorithm->access != Access::none;
  const std::optional<std::uint8_t> reaching = Reach::algorithm_for(collective);
  bool saw_everyone = !has_root(collective);
  if (reaching && (must_reach || header.asks_for_zero_copy())) {
    saw_everyone = true;  // everybody's offer says that it makes the same call
    const HostEntry& zero_copy = catalogue()[*reaching];
    if (reach_.meet(team, links, exposed(call), zero_copy.access, must_reach)) {
      algorithm = &zero_copy;
    } else if (must_reach) {
      board.leave(header, 0, header.algorithm_index());
      throw InvalidArgument(refusal(rank_, describe(header),
                                    "not every rank's buffer can be reached: take those that comm.empty() "
                                    "gives, or another algorithm"));
    }
  }
  algorithm->run(team, links, call.task);
  if (strikes) ambush.end();

  settle(concern, team, header, saw_everyone);
  board.leave(header, call.bytes, static_cast<std::uint8_t>(algorithm - catalogue().data()));
}

/// The buffers of this rank that its peers may read or write.
Exposed Communicator::exposed(const Prepared& call) const {
  const Task& task = call.task;
  const bool is_root = call.header.root == rank_;
  const std::size_t in = task.in_count * call.unit(), out = task.out_count * call.unit();
  switch (static_cast<Collective>(call.header.collective)) {
    case Collective::all_reduce: return {task.in, in, task.out, out};
    case Collective::reduce: return {task.in, in, task.out, is_root ? out : 0};
    case Collective::broadcast: return {task.out, is_root ? out : 0, nullptr, 0};
    case Collective::gather: return {task.in, is_root ? 0 : in, nullptr, 0};
    case Collective::scatter: return {task.in, is_root ? in : 0, nullptr, 0};
    default: return {task.in, in, nullptr, 0};
  }
}

/// In a world of one every collective is a copy.
void Communicator::copy_alone(const Prepared& call) {
  const Task& task = call.task;
  if (static_cast<Collective>(call.header.collective) == Collective::broadcast || task.in == task.out) return;
  if (task.in_count != 0) std::memcpy(task.out, task.in, task.in_count * call.unit());
}

/// premul_sum is a sum of scaled contributions.
void Communicator::scale_input(Prepared& call) {
  Task& task = call.task;
  void* scaled = task.out;
  if (static_cast<Collective>(call.header.collective) != Collective::all_reduce) {
    const std::size_t bytes = task.in_count * task.width;
    // In a block like the user's array, if that may be one, so that peers reach it as well.
    if (scaled_bytes_ < bytes || (has_blocks() && !place_of(scaled_.get(), bytes))) {
      scaled_ = has_blocks()
                    ? allocate_block(bytes)
                    : std::shared_ptr<std::byte>(new std::byte[bytes], std::default_delete<std::byte[]>());
      scaled_bytes_ = bytes;
    }
    scaled = scaled_.get();
  }
  scale(call.dtype, scaled, task.in, task.in_count, call.factor);
  task.in = scaled;
}

/// Where data flow one way only, a rank finishes beside peers that may have called something else. It goes
/// on, and compares when it knows that they have come: after the next collective in which everybody depends
/// on everybody, and after a number of calls without one.
void Communicator::settle(const CallConcern& concern, Solo& team, const CallHeader& call, bool saw_everyone) {
  std::uint64_t last = call.sequence;
  bool agreed = false;
  if (saw_everyone) {
    agreed = settled_ + 1 == last;  // this call was compared on its way
  } else {
    if (last % Board::kBetweenMarks != 0) return;
    team.signal_all(segment_->board(rank_).arrived, last);
    last -= Board::kBetweenMarks;
    if (last <= settled_) return;
    agreed = have_marked(team, last);
  }
  if (!agreed) {
    concern.check_agreement();
    if (has_fault(*segment_)) throw_fault(*segment_, rank_, concern.describe());
  }
  settled_ = last;
}

/// Waits until all ranks have entered the call `sequence`; whether they have all made the same up to there.
bool Communicator::have_marked(Solo& team, std::uint64_t sequence) {
  bool agreed = true;
  for (int peer = 0; peer < world_; ++peer) {
    if (peer == rank_) continue;
    Board& board = segment_->board(peer);
    team.await(peer, [&](Order order) { return AtomicRef(board.arrived).load(order) >= sequence; });
    agreed = agreed && board.mark_of(sequence) == segment_->board(rank_).mark_of(sequence);
  }
  return agreed;
}

/// The Mismatch that this rank's last calls were part of, if that shows already and no call has thrown it.
std::exception_ptr Communicator::open_disagreement() {
  Board& board = segment_->board(rank_);
  const std::optional<CallHeader> last = board.call(sequence_);
  if (settled_ == sequence_ || board.done != sequence_ || !last) return nullptr;
  CallConcern(*segment_, rank_, *last, settled_ + 1).check_agreement();
  if (!has_fault(*segment_) || segment_->hall().fault.kind != static_cast<std::uint32_t>(ErrorKind::Mismatch))
    return nullptr;
  try {
    throw_fault(*segment_, rank_, "close");
  } catch (...) {
    return std::current_exception();
  }
}

void Communicator::work_through_queue() {
  for (;;) {
    Queued* next = nullptr;
    {
      std::unique_lock order(order_);
      wanted_.wait(order, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      next = &queue_.front();
    }
    std::exception_ptr error;
    try {
      execute(next->call, spins_for(2 * world_));  // each rank's own thread computes meanwhile
    } catch (...) {
      error = std::current_exception();
    }
    const std::shared_ptr<Work> work = next->work;
    {
      const std::lock_guard order(order_);
      queue_.pop_front();
    }
    wanted_.notify_all();
    work->finish(error);
  }
}

}  // namespace ringtree
