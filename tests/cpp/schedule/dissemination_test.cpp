#include "schedule/dissemination.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "schedule/worlds.h"

namespace ringtree {
namespace {

TEST(Dissemination, LetsEveryRankHearFromAll) {
  for (const int world : worlds()) {
    std::vector<std::set<int>> heard(static_cast<std::size_t>(world));
    for (int rank = 0; rank < world; ++rank) heard[static_cast<std::size_t>(rank)].insert(rank);
    for (int step = 0; step < dissemination_steps(world); ++step) {
      const auto before = heard;
      for (int rank = 0; rank < world; ++rank) {
        const DisseminationStep now = dissemination_step(rank, world, step);
        ASSERT_EQ(dissemination_step(now.to, world, step).from, rank);
        const auto& theirs = before[static_cast<std::size_t>(now.from)];
        heard[static_cast<std::size_t>(rank)].insert(theirs.begin(), theirs.end());
      }
    }
    for (const auto& ranks : heard) ASSERT_EQ(ranks.size(), static_cast<std::size_t>(world));
  }
}

}  // namespace
}  // namespace ringtree
