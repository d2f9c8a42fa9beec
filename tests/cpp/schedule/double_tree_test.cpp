#include "schedule/double_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "schedule/worlds.h"

namespace ringtree {
namespace {

std::vector<int> roots(int world) { return {0, world / 2, world - 1}; }

bool is_inner(const TreePlace& place) {
  return std::any_of(std::begin(place.children), std::end(place.children),
                     [](int c) { return c != kNobody; });
}

TEST(DoubleTree, ParentsAndChildrenAgree) {
  for (const int world : worlds())
    for (const int root : roots(world))
      for (int tree = 0; tree < 2; ++tree)
        for (int rank = 0; rank < world; ++rank) {
          const TreePlace place = double_tree_place(rank, world, root, tree);
          for (const int child : place.children)
            if (child != kNobody) {
              ASSERT_EQ(double_tree_place(child, world, root, tree).parent, rank);
            }
          if (rank == root) {
            ASSERT_EQ(place.parent, kNobody);
            continue;
          }
          const TreePlace above = double_tree_place(place.parent, world, root, tree);
          ASSERT_TRUE(above.children[0] == rank || above.children[1] == rank);
        }
}

TEST(DoubleTree, EveryRankReachesTheRootWithinTheDeclaredDepth) {
  for (const int world : worlds())
    for (const int root : roots(world))
      for (int tree = 0; tree < 2; ++tree)
        for (int rank = 0; rank < world; ++rank) {
          int steps = 0;
          for (int at = rank; at != root; ++steps) {
            ASSERT_LE(steps, double_tree_depth(world));
            at = double_tree_place(at, world, root, tree).parent;
          }
          ASSERT_LE(steps, double_tree_depth(world)) << "world " << world;
        }
}

TEST(DoubleTree, NobodyBelowTheRootHasChildrenInBothTrees) {
  for (const int world : worlds())
    for (const int root : roots(world))
      for (int rank = 0; rank < world; ++rank)
        if (rank != root) {
          ASSERT_FALSE(is_inner(double_tree_place(rank, world, root, 0)) &&
                       is_inner(double_tree_place(rank, world, root, 1)))
              << "rank " << rank << " of " << world << " below " << root;
        }
}

TEST(DoubleTree, MatchesThePapersDrawingForSevenNodes) {
  const auto place = [](int rank) { return double_tree_place(rank, 8, 0, 0); };
  EXPECT_EQ(place(0).children[0], 4);
  EXPECT_EQ(place(4).children[0], 2);
  EXPECT_EQ(place(4).children[1], 6);
  EXPECT_EQ(place(6).children[0], 5);
  EXPECT_EQ(place(6).children[1], 7);
  EXPECT_EQ(place(3).parent, 2);
}

}  // namespace
}  // namespace ringtree
