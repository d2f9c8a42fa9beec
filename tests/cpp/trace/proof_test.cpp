// Every algorithm of the catalogue, in every world from 1 to 64 ranks and in some large ones: each rank ends
// with each contribution exactly once, in the promised order, whatever the schedule; and the algorithm takes
// the steps and bytes that it declares. docs/proofs.md says what this shows, and what it does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "algorithms.h"  // generated: all of the catalogue
#include "schedule/double_tree.h"
#include "schedule/halving_doubling.h"
#include "trace/world.h"

namespace ringtree::trace {
namespace {

struct Entry {
  Collective collective;
  std::string name;
  Outcome (*run)(const Call&);
  Cost (*cost)(const Priced&);
};

std::ostream& operator<<(std::ostream& stream, const Entry& entry) {
  return stream << kCollectiveNames[static_cast<std::size_t>(entry.collective)] << " " << entry.name;
}

const std::vector<Entry> kEntries = {
#define RINGTREE_ENTRY(collective, name) \
  Entry{Collective::collective, #name, &run<collective##_##name>, &collective##_##name::cost},
#include "entries.inc"  // generated: one line an algorithm
#undef RINGTREE_ENTRY
};

Symbol combined(std::vector<Symbol> operands, bool closes) {
  std::vector<const void*> sources;
  for (const Symbol& operand : operands) sources.push_back(&operand);
  Symbol result;
  Combine{closes}(&result, sources.data(), static_cast<int>(operands.size()), 1);
  return result;
}

/// All contributions to element `index` in the orders that docs/algorithms/ promises.
class Promise {
 public:
  Promise(const Call& call, std::size_t index) : call_(&call), index_(index) {}

  Symbol in_rank_order() const {
    std::vector<Symbol> operands;
    for (int rank = 0; rank < call_->world; ++rank) operands.push_back(of(rank));
    return combined(operands, true);
  }

  /// From the rank behind `last` around to `last`.
  Symbol around_to(int last) const {
    Symbol sum = of((last + 1) % call_->world);
    for (int step = 2; step <= call_->world; ++step)
      sum = combined({sum, of((last + step) % call_->world)}, step == call_->world);
    return sum;
  }

  /// The left child's sum, the own contribution, the right child's sum.
  Symbol up_the_tree(int rank, int root, int tree) const {
    const TreePlace place = double_tree_place(rank, call_->world, root, tree);
    std::vector<Symbol> operands;
    if (place.children[0] != kNobody) operands.push_back(up_the_tree(place.children[0], root, tree));
    operands.push_back(of(rank));
    if (place.children[1] != kNobody) operands.push_back(up_the_tree(place.children[1], root, tree));
    return combined(operands, rank == root);
  }

  /// Folded ranks first; then over the bits of the corners, the lower corner to the left.
  Symbol over_the_cube(bool from_the_lowest_bit) const {
    const Hypercube cube(call_->world);
    std::vector<Symbol> corners;
    for (int corner = 0; corner < cube.cube; ++corner) {
      const int rank = cube.rank_at(corner);
      corners.push_back(cube.is_speaker(rank) ? combined({of(rank - 1), of(rank)}, false) : of(rank));
    }
    for (int step = 0; step < cube.steps; ++step) {
      const auto bit = std::size_t{1} << (from_the_lowest_bit ? step : cube.steps - 1 - step);
      std::vector<Symbol> next;
      for (std::size_t corner = 0; corner < corners.size(); ++corner)
        next.push_back(combined({corners[corner & ~bit], corners[corner | bit]}, step == cube.steps - 1));
      corners = next;
    }
    return corners[0];
  }

 private:
  Symbol of(int rank) const { return Symbol::contribution(rank, index_); }

  const Call* call_;
  std::size_t index_;
};

class Proof : public testing::TestWithParam<Entry> {
 protected:
  static Collective collective() { return GetParam().collective; }
  static bool is(const char* name) { return GetParam().name == name; }

  static bool reduces() { return ringtree::reduces(collective()); }

  /// What element `i` of the result of `rank` must be, if it is only moved.
  static Symbol moved(const Call& call, int rank, std::size_t i) {
    const int owner = static_cast<int>(i / call.share);
    switch (call.collective) {
      case Collective::broadcast: return Symbol::contribution(call.root, i);
      case Collective::scatter:
        return Symbol::contribution(call.root, static_cast<std::size_t>(rank) * call.share + i);
      case Collective::all_to_all:
        return Symbol::contribution(owner, static_cast<std::size_t>(rank) * call.share + i % call.share);
      default: return Symbol::contribution(owner, i % call.share);  // all_gather, gather
    }
  }

  static Symbol promised(const Call& call, std::size_t index) {
    const Promise promise(call, index);
    const std::size_t half = (call.ranks() * call.share + 1) / 2;
    if (is("ring"))
      return promise.around_to(call.collective == Collective::reduce ? call.root
                                                                     : static_cast<int>(index / call.share));
    if (is("double_tree")) return promise.up_the_tree(call.root, call.root, index < half ? 0 : 1);
    if (is("recursive_doubling")) return promise.over_the_cube(true);
    if (is("halving_doubling") || is("recursive_halving")) return promise.over_the_cube(false);
    return promise.in_rank_order();
  }

  static void check_reduced(const Call& call, std::size_t index, const Symbol& got) {
    SCOPED_TRACE("element " + std::to_string(index));
    const Symbol expected = promised(call, index);
    ASSERT_EQ(got.count, expected.count) << "contributions";
    ASSERT_EQ(got.ranks, expected.ranks) << "somebody contributed twice";
    ASSERT_EQ(got.index, index);
    ASSERT_FALSE(got.is_mixed);
    ASSERT_EQ(got.closings, 1U);
    ASSERT_EQ(got.expression, expected.expression) << "another order";
  }

  static void check(const Call& call, const Outcome& outcome) {
    SCOPED_TRACE(call.text());
    ASSERT_EQ(outcome.waiting_for_ever, std::vector<int>{}) << "wait for ever";
    ASSERT_EQ(outcome.disagreements, std::vector<std::string>{});
    for (int rank = 0; rank < call.world; ++rank) {
      SCOPED_TRACE("rank " + std::to_string(rank));
      const Symbols& result = outcome.results[static_cast<std::size_t>(rank)];
      const bool repeats = call.collective == Collective::all_reduce && rank > 0;
      if (repeats) {
        ASSERT_EQ(result, outcome.results[0]) << "ranks differ";
      } else if (reduces()) {
        const bool gets = call.collective != Collective::reduce || call.is_root(rank);
        const std::size_t first =
            call.collective == Collective::reduce_scatter ? static_cast<std::size_t>(rank) * call.share : 0;
        for (std::size_t i = 0; gets && i < result.size(); ++i)
          ASSERT_NO_FATAL_FAILURE(check_reduced(call, first + i, result[i]));
      } else {
        for (std::size_t i = 0; i < result.size(); ++i) {
          ASSERT_EQ(result[i], moved(call, rank, i)) << "element " << i;
        }
      }
      const Symbols& input = outcome.inputs[static_cast<std::size_t>(rank)];
      const bool stays = !call.in_place && call.collective != Collective::broadcast;
      for (std::size_t i = 0; stays && i < input.size(); ++i) {
        ASSERT_EQ(input[i], Symbol::contribution(rank, i)) << "the input changed";
      }
    }
  }

  static void check_cost(const Call& call, const Tally& tally) {
    SCOPED_TRACE(call.text());
    const Cost declared = GetParam().cost(call.priced());
    const double steps = static_cast<double>(tally.steps);
    if (collective() == Collective::all_reduce && is("double_tree")) {
      // Where lanes carry pieces of both trees, these may stand in each other's way once or twice.
      EXPECT_GE(steps, declared.steps);
      EXPECT_LE(steps, declared.steps + 2);
    } else {
      EXPECT_EQ(steps, declared.steps);
    }
    if (collective() == Collective::barrier) return;  // no elements
    EXPECT_EQ(static_cast<double>(tally.bytes_per_link), std::round(declared.bytes_per_link));
    if (is("halving_doubling") && call.share * call.ranks() % std::bit_floor(call.ranks()) != 0)
      return;  // the parts of the corners differ by an element
    EXPECT_EQ(static_cast<double>(tally.moved_bytes), std::round(declared.moved_bytes));
  }

  static Outcome run_and_check(const Call& call) {
    Outcome outcome = GetParam().run(call);
    check(call, outcome);
    return outcome;
  }

  /// Elements of a slot: the recursive algorithms keep one of each rank there, and halve what is there.
  static std::size_t piece_of(int world) {
    const auto ranks = static_cast<std::size_t>(std::max(world, 2));
    return is("halving_doubling") ? std::lcm(ranks, std::bit_floor(ranks)) : ranks;
  }

  static std::vector<int> roots(int world) {
    if (!has_root(collective())) return {0};
    return world == 1   ? std::vector{0}
           : world == 2 ? std::vector{0, 1}
                        : std::vector{0, world / 2, world - 1};
  }
};

TEST_P(Proof, HoldsInSmallWorldsForAllSchedulesRootsAndForms) {
  for (int world = 2; world <= 16; ++world)
    for (const Schedule schedule : {Schedule::far_ahead, Schedule::lockstep, Schedule::random})
      for (const int root : roots(world))
        for (const bool in_place : {false, true}) {
          if (in_place && collective() != Collective::all_reduce && collective() != Collective::reduce)
            continue;
          // Six rounds go round the four slots; 3 and 1 elements leave pieces and chunks partly empty.
          for (const std::size_t share : {6 * piece_of(world), std::size_t{3}, std::size_t{1}}) {
            if (share > 100 && world > 8) continue;
            const Call call{collective(), world, share, piece_of(world), root, in_place, schedule};
            const Outcome outcome = run_and_check(call);
            if (HasFatalFailure()) return;
            if (share > 3 && root == 0 && !in_place) check_cost(call, outcome.tally);
          }
        }
}

TEST_P(Proof, HoldsInEveryWorldUpTo64) {
  for (int world = 17; world <= 64; ++world) {
    const int root = has_root(collective()) ? world / 3 : 0;
    const Schedule schedule = world % 3 == 0   ? Schedule::far_ahead
                              : world % 3 == 1 ? Schedule::lockstep
                                               : Schedule::random;
    const auto ranks = static_cast<std::size_t>(world);
    const std::size_t share = is("halving_doubling") ? std::bit_floor(ranks) : 2;
    const Call call{collective(), world, share, piece_of(world), root, false, schedule};
    const Outcome outcome = run_and_check(call);
    if (HasFatalFailure()) return;
    check_cost(call, outcome.tally);
  }
}

TEST_P(Proof, HoldsInLargeWorlds) {
  for (const int world : {96, 128, 257, 1000}) {
    const std::size_t share = is("double_tree") ? 2 : 1;  // halves for two trees
    const Call call{collective(), world, share, piece_of(world), has_root(collective()) ? world - 1 : 0};
    const Outcome outcome = run_and_check(call);
    if (HasFatalFailure()) return;
    check_cost(call, outcome.tally);
  }
}

INSTANTIATE_TEST_SUITE_P(Catalogue, Proof, testing::ValuesIn(kEntries), [](const auto& info) {
  return std::string(kCollectiveNames[static_cast<std::size_t>(info.param.collective)]) + "_" +
         info.param.name;
});

}  // namespace
}  // namespace ringtree::trace
