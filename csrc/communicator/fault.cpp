#include "communicator/fault.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "communicator/dump.h"

namespace ringtree {
namespace {

constexpr const char* kAdvice = " This communicator can no longer be used: close it and create a new one.";

[[noreturn]] void throw_error(ErrorKind kind, const std::string& text, std::vector<int> ranks) {
  switch (kind) {
#define RINGTREE_ERROR(name, base, documentation) \
  case ErrorKind::name: throw name(text, std::move(ranks));
#include "core/errors.def"
#undef RINGTREE_ERROR
  }
  __builtin_unreachable();
}

/// Whoever loses the race to tell of a fault may go on only once the winner has told of its own. Bounded: the
/// winner may have been killed while it wrote.
void await_record(Segment& segment) {
  constexpr int kYields = 100'000;
  for (int yields = 0; yields < kYields && !has_fault(segment); ++yields) sched_yield();
}

}  // namespace

void raise_fault(Segment& segment, ErrorKind kind, const std::vector<int>& ranks, const std::string& text) {
  FaultRecord& fault = segment.hall().fault;
  std::uint32_t expected = FaultRecord::none;
  if (!__atomic_compare_exchange_n(&fault.state, &expected, FaultRecord::being_written, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    await_record(segment);
    return;
  }
  fault.kind = static_cast<std::uint32_t>(kind);
  for (const int rank : ranks)
    fault.ranks[static_cast<std::size_t>(rank) / 64] |= std::uint64_t{1}
                                                        << (static_cast<unsigned>(rank) % 64);
  const std::size_t length = std::min(text.size(), fault.text.size() - 1);
  std::memcpy(fault.text.data(), text.data(), length);
  AtomicRef(fault.state).store(FaultRecord::raised, release);  // pairs with: has_fault()
  segment.ring_everyone();
}

void raise_death(Segment& segment, const std::vector<int>& ranks, const std::string& where) {
  raise_fault(segment, ErrorKind::RankFailure, ranks,
              list_ranks(ranks) + " died (the process has ended) while " + where + " needs " +
                  (ranks.size() == 1 ? "it." : "them."));
}

void raise_departure(Segment& segment, const std::vector<int>& ranks, const std::string& where) {
  raise_fault(segment, ErrorKind::RankFailure, ranks,
              list_ranks(ranks) + " closed the communicator while " + where + " needs " +
                  (ranks.size() == 1 ? "it." : "them."));
}

bool has_fault(Segment& segment) {
  return AtomicRef(segment.hall().fault.state).load(acquire) == FaultRecord::raised;
}

void throw_fault(Segment& segment, int rank, const std::string& where) {
  const FaultRecord& fault = segment.hall().fault;
  throw_error(static_cast<ErrorKind>(fault.kind),
              "rank " + std::to_string(rank) + ", " + where + ": " + fault.text.data() + kAdvice +
                  dump(segment, rank),
              ranks_of(fault, segment.world()));
}

std::vector<int> ranks_of(const FaultRecord& fault, int world) {
  std::vector<int> ranks;
  for (int peer = 0; peer < world; ++peer)
    if ((fault.ranks[static_cast<std::size_t>(peer) / 64] >> (static_cast<unsigned>(peer) % 64) & 1) != 0)
      ranks.push_back(peer);
  return ranks;
}

std::string list_ranks(const std::vector<int>& ranks) {
  std::string list = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i != 0) list += i + 1 == ranks.size() ? " and " : ", ";
    list += std::to_string(ranks[i]);
  }
  return list;
}

std::string format_seconds(double seconds) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g s", seconds);
  return text.data();
}

}  // namespace ringtree
