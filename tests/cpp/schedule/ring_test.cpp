#include "schedule/ring.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "schedule/worlds.h"

namespace ringtree {
namespace {

TEST(Ring, NeighboursAgreeOnWhoSendsToWhom) {
  for (const int world : worlds())
    for (int rank = 0; rank < world; ++rank)
      ASSERT_EQ(ring_neighbours(ring_neighbours(rank, world).next, world).prev, rank);
}

TEST(Ring, ReducingHalfLeavesEveryContributionOnceInTheOwnersChunk) {
  for (const int world : worlds()) {
    // partial[rank]: the ranks that have contributed to the sum that is on its way to `rank`'s next.
    for (int chunk = 0; chunk < world; ++chunk) {
      std::vector<int> order;
      int holder = modulo(chunk + 1, world);
      order.push_back(holder);
      for (int step = 0; step < world - 1; ++step) {
        ASSERT_EQ(ring_reduce_chunk(holder, world, step), chunk) << "world " << world;
        holder = ring_neighbours(holder, world).next;
        order.push_back(holder);
      }
      if (world == 1) order = {0};
      ASSERT_EQ(holder, world == 1 ? holder : chunk);
      ASSERT_EQ(std::set<int>(order.begin(), order.end()).size(), static_cast<std::size_t>(world));
    }
  }
}

TEST(Ring, SpreadingHalfBringsEveryChunkToEveryRank) {
  for (const int world : worlds()) {
    std::vector<std::set<int>> has(static_cast<std::size_t>(world));
    for (int rank = 0; rank < world; ++rank) has[static_cast<std::size_t>(rank)].insert(rank);
    for (int step = 0; step < world - 1; ++step) {
      std::vector<std::pair<int, int>> arrivals;
      for (int rank = 0; rank < world; ++rank) {
        const int chunk = ring_gather_chunk(rank, world, step);
        ASSERT_TRUE(has[static_cast<std::size_t>(rank)].contains(chunk)) << "sent before it had arrived";
        arrivals.emplace_back(ring_neighbours(rank, world).next, chunk);
      }
      for (const auto& [rank, chunk] : arrivals) has[static_cast<std::size_t>(rank)].insert(chunk);
    }
    for (const auto& chunks : has) ASSERT_EQ(chunks.size(), static_cast<std::size_t>(world));
  }
}

TEST(Ring, WhatARankReceivesIsWhatItsPredecessorSends) {
  for (const int world : worlds())
    for (int rank = 0; rank < world; ++rank)
      for (int step = 1; step < world; ++step) {
        const int prev = ring_neighbours(rank, world).prev;
        ASSERT_EQ(ring_reduce_chunk(rank, world, step), ring_reduce_chunk(prev, world, step - 1));
        ASSERT_EQ(ring_gather_chunk(rank, world, step), ring_gather_chunk(prev, world, step - 1));
      }
}

}  // namespace
}  // namespace ringtree
