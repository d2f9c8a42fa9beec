#include "schedule/halving_doubling.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "schedule/worlds.h"

namespace ringtree {
namespace {

TEST(Hypercube, CornersAreHeldByExactlyTheRanksThatAreNotFolded) {
  for (const int world : worlds()) {
    const Hypercube cube(world);
    ASSERT_LE(cube.cube, world);
    ASSERT_GT(2 * cube.cube, world);
    ASSERT_EQ(1 << cube.steps, cube.cube);
    int folded = 0;
    for (int rank = 0; rank < world; ++rank) {
      if (cube.is_folded(rank)) {
        ++folded;
        ASSERT_TRUE(cube.is_speaker(rank + 1));
      } else {
        ASSERT_EQ(cube.rank_at(cube.corner_of(rank)), rank);
      }
    }
    ASSERT_EQ(folded, cube.rest());
  }
}

TEST(Hypercube, PartnersAreMutual) {
  for (const int world : worlds()) {
    const Hypercube cube(world);
    for (int corner = 0; corner < cube.cube; ++corner)
      for (int bit = 0; bit < cube.steps; ++bit) {
        const int rank = cube.rank_at(corner);
        ASSERT_EQ(cube.partner(cube.partner(rank, bit), bit), rank);
      }
  }
}

TEST(Hypercube, DoublingBringsEveryContributionToEveryCornerOnce) {
  for (const int world : worlds()) {
    const Hypercube cube(world);
    std::vector<std::multiset<int>> sums(static_cast<std::size_t>(cube.cube));
    for (int rank = 0; rank < world; ++rank) {
      const int speaker = cube.is_folded(rank) ? rank + 1 : rank;
      sums[static_cast<std::size_t>(cube.corner_of(speaker))].insert(rank);
    }
    for (int bit = 0; bit < cube.steps; ++bit) {
      const auto before = sums;
      for (int corner = 0; corner < cube.cube; ++corner) {
        const auto& theirs = before[static_cast<std::size_t>(corner ^ (1 << bit))];
        sums[static_cast<std::size_t>(corner)].insert(theirs.begin(), theirs.end());
      }
    }
    for (const auto& sum : sums) {
      ASSERT_EQ(sum.size(), static_cast<std::size_t>(world));
      ASSERT_EQ(std::set<int>(sum.begin(), sum.end()).size(), static_cast<std::size_t>(world));
    }
  }
}

TEST(Hypercube, HalvingNarrowsTheSharedCornersToTheOwnOne) {
  for (const int world : worlds()) {
    const Hypercube cube(world);
    for (int corner = 0; corner < cube.cube; ++corner)
      for (int bit = cube.steps - 1; bit >= 0; --bit) {
        const CornerRange mine = corners_sharing(corner, bit),
                          theirs = corners_sharing(corner ^ (1 << bit), bit);
        const CornerRange both = corners_sharing(corner, bit + 1);
        ASSERT_EQ(std::min(mine.begin, theirs.begin), both.begin);
        ASSERT_EQ(std::max(mine.end, theirs.end), both.end);
        ASSERT_TRUE(mine.end == theirs.begin || theirs.end == mine.begin);
        if (bit == 0) {
          ASSERT_EQ(mine.begin, corner);
        }
      }
  }
}

TEST(Hypercube, CornersOwnConsecutiveRanks) {
  for (const int world : worlds()) {
    const Hypercube cube(world);
    for (int corner = 0; corner < cube.cube; ++corner)
      for (int rank = cube.first_rank(corner); rank < cube.first_rank(corner + 1); ++rank)
        ASSERT_EQ(cube.corner_of(cube.is_folded(rank) ? rank + 1 : rank), corner);
    ASSERT_EQ(cube.first_rank(cube.cube), world);
  }
}

}  // namespace
}  // namespace ringtree
