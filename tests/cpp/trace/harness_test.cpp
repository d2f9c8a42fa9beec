// What the proof would say of algorithms that are wrong: a proof that nothing can fail is none.
#include <gtest/gtest.h>

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/ring.h"
#include "trace/world.h"

namespace ringtree::trace {
namespace {

/// A ring all-gather with one mistake, as `kMistake` says.
enum class Mistake { none, wrong_chunk, forgets_to_send };

template <Mistake kMistake>
struct RingWith {
  template <class Team, class Links, class T>
  static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks) {
    const int rank = links.rank(), world = links.world();
    const RingNeighbours neighbours = ring_neighbours(rank, world);
    team.copy(out.data() + chunks.chunk(rank).begin, in.data(), in.size());
    for (int step = 1; step < world; ++step) {
      const int sent = modulo(rank - step + 1, world), got = modulo(rank - step, world);
      const Range outgoing = chunks.chunk(kMistake == Mistake::wrong_chunk && step == 2 ? rank : sent);
      if (kMistake != Mistake::forgets_to_send || rank != 1 || step != 2)
        push(team, links.to(neighbours.next), Span<const T>(out.part(outgoing.begin, outgoing.size)));

      const Range incoming = chunks.chunk(got);
      pull(team, links.from(neighbours.prev), out.part(incoming.begin, incoming.size));
    }
  }
};

/// Rank 0 sends what it has to rank 1, piece by piece, and fills all slots if it can.
template <bool kReadsAfterRelease>
struct Stream {
  template <class Team, class Links, class T>
  static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& /*chunks*/) {
    for (std::size_t begin = 0; begin < in.size(); begin += 2) {
      if (links.rank() == 0) {
        push(team, links.to(1), in.part(begin, 2));
        continue;
      }
      Receiver from = links.from(0);
      const Claim arrived = from.arrival(team, 2 * sizeof(T));
      if (kReadsAfterRelease) from.release(team, arrived);
      team.copy(out.data() + begin, reinterpret_cast<const T*>(arrived.data), 2);
      if (!kReadsAfterRelease) from.release(team, arrived);
    }
  }
};

const Call kCall{Collective::all_gather, 12, 2, 12, 0, false, Schedule::lockstep};

bool is_right(const Outcome& outcome) {
  for (const Symbols& result : outcome.results)
    for (std::size_t i = 0; i < result.size(); ++i)
      if (result[i] != Symbol::contribution(static_cast<int>(i / kCall.share), i % kCall.share)) return false;
  return outcome.waiting_for_ever.empty();
}

TEST(Trace, PassesARing) { EXPECT_TRUE(is_right(run<RingWith<Mistake::none>>(kCall))); }

TEST(Trace, SeesDataInTheWrongPlace) {
  const Outcome outcome = run<RingWith<Mistake::wrong_chunk>>(kCall);
  EXPECT_TRUE(outcome.waiting_for_ever.empty());
  EXPECT_FALSE(is_right(outcome));
}

TEST(Trace, NamesTheRanksThatWaitForEver) {
  const Outcome outcome = run<RingWith<Mistake::forgets_to_send>>(kCall);
  EXPECT_EQ(outcome.waiting_for_ever, std::vector<int>{2});
}

template <class Algorithm>
bool streams_well() {
  bool well = true;
  for (const Schedule schedule : {Schedule::far_ahead, Schedule::lockstep, Schedule::random}) {
    const Outcome outcome = run<Algorithm>({Collective::all_gather, 2, 200, 2, 0, false, schedule});
    for (std::size_t i = 0; i < 200; ++i) well = well && outcome.results[1][i] == Symbol::contribution(0, i);
  }
  return well;
}

TEST(Trace, SeesReadsOfASlotThatWasGivenBack) {
  EXPECT_TRUE(streams_well<Stream<false>>());
  EXPECT_FALSE(streams_well<Stream<true>>());
}

TEST(Trace, CountsStepsAndBytesOfARing) {
  const Tally tally = run<RingWith<Mistake::none>>(kCall).tally;
  const std::uint64_t chunk = kCall.share * sizeof(Symbol);
  EXPECT_EQ(tally.steps, 11U);
  EXPECT_EQ(tally.bytes_per_link, 11 * chunk);
  EXPECT_EQ(tally.moved_bytes, (2 + 11 * 4) * chunk);
}

}  // namespace
}  // namespace ringtree::trace
