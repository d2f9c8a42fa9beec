#include "communicator/survivors.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "communicator/fault.h"
#include "communicator/patience.h"
#include "core/errors.h"

namespace ringtree {
namespace {

constexpr std::int64_t kLookMicroseconds = 20'000;

bool is_among(const std::vector<int>& ranks, int rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

/// Where `rank` writes what it gives: its window, as its length and its bytes.
std::byte* note_of(const Segment& segment, int rank) {
  const LinkLayout& layout = segment.layout();
  return segment.links() + layout.windows_offset() + static_cast<std::size_t>(rank) * layout.window.bytes();
}

}  // namespace

/// Calls `look` until it says that nobody is missing. It returns the ranks that are.
template <class Look>
void Survivors::wait(const char* what, Look look) const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point started = Clock::now();
  Doorbell& doorbell = segment_->doorbells()[rank_];
  for (;;) {
    const std::uint32_t ticket = doorbell.announce();
    std::vector<int> missing;
    try {
      missing = look();
    } catch (...) {
      doorbell.retire();
      throw;
    }
    if (!missing.empty()) doorbell.sleep(ticket, kLookMicroseconds);
    doorbell.retire();
    if (missing.empty()) return;
    if (interrupted()) throw Interrupted();
    if (std::chrono::duration<double>(Clock::now() - started).count() < *timeout_seconds_) continue;
    throw Timeout("rank " + std::to_string(rank_) + ", shrink: " + list_ranks(missing) + " " + what +
                      " within " + format_seconds(*timeout_seconds_) +
                      ". Close this communicator and start again with a new one.",
                  missing);
  }
}

std::vector<int> Survivors::agree(const std::vector<int>& without) {
  Hall& hall = segment_->hall();
  if (++round_ >= hall.decisions.size())
    throw RankFailure("rank " + std::to_string(rank_) + ", shrink: survivors died in each of " +
                      std::to_string(round_ - 1) + " attempts. Close this communicator.");
  AtomicRef(segment_->board(rank_).shrinking).store(round_, seq_cst);
  segment_->ring_everyone();
  wait("did not call shrink()", [&] {
    std::vector<int> present, missing;
    if (AtomicRef(hall.decisions[round_]).load(seq_cst) != 0) return missing;
    const std::vector<int> dead = liveness_->dead();
    for (int peer = 0; peer < segment_->world(); ++peer) {
      Board& board = segment_->board(peer);
      if (is_among(without, peer) || is_among(dead, peer) ||
          AtomicRef(board.state).load(acquire) == Board::left)
        continue;
      (AtomicRef(board.shrinking).load(seq_cst) >= round_ ? present : missing).push_back(peer);
    }
    if (missing.empty()) propose(present);
    return missing;
  });
  const std::vector<int> survivors = decided();
  if (!is_among(survivors, rank_))
    throw RankFailure("rank " + std::to_string(rank_) + ", shrink: " + list_ranks(survivors) +
                          " went on without this rank. Close this communicator.",
                      {rank_});
  return survivors;
}

void Survivors::propose(const std::vector<int>& present) {
  Board& board = segment_->board(rank_);
  board.survivors = {};
  for (const int rank : present)
    board.survivors[static_cast<std::size_t>(rank) / 64] |= std::uint64_t{1}
                                                            << (static_cast<unsigned>(rank) % 64);
  std::uint64_t nobody = 0;
  __atomic_compare_exchange_n(&segment_->hall().decisions[round_], &nobody,
                              static_cast<std::uint64_t>(rank_) + 1, false, __ATOMIC_ACQ_REL,
                              __ATOMIC_ACQUIRE);  // pairs with: the loads in agree() and decided()
  segment_->ring_everyone();
}

std::vector<int> Survivors::decided() const {
  const std::uint64_t decider = AtomicRef(segment_->hall().decisions[round_]).load(acquire) - 1;
  const Board& board = segment_->board(static_cast<int>(decider));
  std::vector<int> ranks;
  for (int rank = 0; rank < segment_->world(); ++rank)
    if ((board.survivors[static_cast<std::size_t>(rank) / 64] >> (static_cast<unsigned>(rank) % 64) & 1) != 0)
      ranks.push_back(rank);
  return ranks;
}

std::vector<std::string> Survivors::exchange(const std::vector<int>& members, const std::string& own) {
  std::uint64_t size = own.size();
  if (sizeof(size) + size > segment_->layout().window.bytes())
    throw InvalidArgument("shrink: " + std::to_string(size) + " bytes are too many to exchange");
  std::byte* note = note_of(*segment_, rank_);
  std::memcpy(note, &size, sizeof(size));
  std::memcpy(note + sizeof(size), own.data(), size);
  AtomicRef(segment_->board(rank_).offered).store(round_, seq_cst);  // pairs with: the load below
  segment_->ring_everyone();

  wait("did not go on", [&] {
    std::vector<int> missing, lost;
    const std::vector<int> dead = liveness_->dead();
    for (const int member : members) {
      if (AtomicRef(segment_->board(member).offered).load(seq_cst) >= round_) continue;
      (is_among(dead, member) ? lost : missing).push_back(member);
    }
    if (!lost.empty())
      throw RankFailure("rank " + std::to_string(rank_) + ", shrink: " + list_ranks(lost) + " died.", lost);
    return missing;
  });

  std::vector<std::string> all;
  for (const int member : members) {
    const std::byte* theirs = note_of(*segment_, member);
    std::memcpy(&size, theirs, sizeof(size));
    all.emplace_back(reinterpret_cast<const char*>(theirs) + sizeof(size), size);
  }
  return all;
}

}  // namespace ringtree
