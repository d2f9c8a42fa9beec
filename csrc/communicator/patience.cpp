#include "communicator/patience.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "communicator/fault.h"

namespace ringtree {
namespace {

// A yield is a microsecond or so; a sleep costs the sleeper a wake-up and the waker a system call, several
// microseconds each. Yielding pays while another rank of this core is about to answer (docs/measuring.md).
constexpr int kYields = 100;
constexpr std::int64_t kSleepMicroseconds = 20'000;
constexpr auto kBetweenLooks = std::chrono::milliseconds(20);

std::atomic<InterruptCheck> interrupt_check{nullptr};

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  // A launcher that binds each rank to one core has not oversubscribed it.
  return allowed > 1 ? allowed : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

}  // namespace

void set_interrupt_check(InterruptCheck check) { interrupt_check = check; }

bool interrupted() {
  const InterruptCheck check = interrupt_check;
  return check != nullptr && check();
}

bool is_oversubscribed(int world) { return world > usable_cpus(); }

int spins_for(int world) {
  constexpr int kSpins = 2000, kSpinsOversubscribed = 20;
  return is_oversubscribed(world) ? kSpinsOversubscribed : kSpins;
}

Patience::Patience(Segment& segment, const Liveness& liveness, int rank,
                   const std::atomic<double>& timeout_seconds)
    : segment_(&segment), liveness_(&liveness), rank_(rank), timeout_seconds_(&timeout_seconds) {}

void Patience::begin(const Concern& concern, double timeout_seconds) {
  concern_ = &concern;
  own_timeout_seconds_ = timeout_seconds;
  started_ = Clock::time_point{};  // the clock is read by the first wait that gets as far as resting
}

std::uint32_t Patience::prepare() {
  if (rests_ < kYields || announced_) return 0;
  announced_ = true;
  return segment_->doorbells()[rank_].announce();
}

void Patience::rest(std::uint32_t ticket, int peer) {
  try {
    if (has_fault(*segment_) && std::exchange(knows_of_fault_, true)) {
      note_awaited(concern_->awaited(peer));
      throw_fault(*segment_, rank_, concern_->describe());
    }
    if (knows_of_fault_)
      return;  // to look once more: it may be of a call after this one, which has all it needs
    if (announced_)
      sleep(ticket, peer);
    else
      yield();
  } catch (...) {
    resume();  // not before the dump, which says whom this rank waited for
    throw;
  }
}

void Patience::yield() {
  if (rests_++ == 0 && started_ == Clock::time_point{}) {
    started_ = Clock::now();
    next_look_ = started_ + kBetweenLooks;
  }
  sched_yield();
}

void Patience::sleep(std::uint32_t ticket, int peer) {
  note_awaited(concern_->awaited(peer));
  segment_->doorbells()[rank_].sleep(ticket, kSleepMicroseconds);
  segment_->doorbells()[rank_].retire();
  announced_ = false;
  if (Clock::now() >= next_look_) look_around(peer);
}

void Patience::resume() noexcept {
  if (announced_) segment_->doorbells()[rank_].retire();
  announced_ = knows_of_fault_ = false;
  rests_ = 0;
  if (notes_awaited_) AtomicRef(segment_->board(rank_).awaited).store(0, relaxed);
  notes_awaited_ = false;
}

/// For those who look on.
void Patience::note_awaited(int peer) {
  Board& board = segment_->board(rank_);
  if (!notes_awaited_) AtomicRef(board.awaited_since_ns).store(precise_ns(), relaxed);
  AtomicRef(board.awaited).store(static_cast<std::uint64_t>(peer) + 1, relaxed);
  notes_awaited_ = true;
}

void Patience::look_around(int peer) {
  next_look_ = Clock::now() + kBetweenLooks;
  concern_->check_agreement();

  std::vector<int> gone, died = liveness_->dead();
  std::erase_if(died, [&](int rank) { return !concern_->needs(rank); });
  for (int rank = 0; rank < segment_->world(); ++rank)
    if (rank != rank_ && AtomicRef(segment_->board(rank).state).load(acquire) == Board::left &&
        concern_->needs(rank))
      gone.push_back(rank);
  if (!gone.empty()) raise_departure(*segment_, gone, concern_->describe());
  if (!died.empty()) raise_death(*segment_, died, concern_->describe());

  const double waited = std::chrono::duration<double>(Clock::now() - started_).count();
  const double timeout = own_timeout_seconds_ > 0 ? own_timeout_seconds_ : timeout_seconds_->load();
  if (waited > timeout) concern_->give_up(peer, timeout);
  if (interrupted()) {
    raise_fault(
        *segment_, ErrorKind::Aborted, {rank_},
        "rank " + std::to_string(rank_) + " was interrupted (Ctrl-C) in " + concern_->describe() + ".");
    throw Interrupted();
  }
}

void Patience::lose(int peer, int error) {
  const std::string where = concern_->describe();
  if (error == ESRCH)
    raise_death(*segment_, {peer}, where);
  else
    raise_fault(*segment_, ErrorKind::TransportError, {peer},
                "reading the memory of rank " + std::to_string(peer) + " failed in " + where + ": " +
                    std::strerror(error) + "; was its array freed during the call?");
  throw_fault(*segment_, rank_, where);
}

void Patience::disagree(int peer, std::uint64_t sent, std::uint64_t expected) {
  concern_->disagree(peer, sent, expected);
}

}  // namespace ringtree
