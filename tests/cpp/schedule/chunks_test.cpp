#include "schedule/chunks.h"

#include <gtest/gtest.h>

#include <vector>

#include "schedule/worlds.h"

namespace ringtree {
namespace {

/// Chunks, and pieces of chunks over all rounds, must cover the buffer once and in order.
void expect_cover(const Chunks& chunks, std::size_t count, std::size_t piece) {
  ASSERT_EQ(chunks.count(), count);
  std::size_t position = 0;
  for (int index = 0; index < chunks.chunks(); ++index) {
    const Range chunk = chunks.chunk(index);
    ASSERT_EQ(chunk.begin, position);
    std::size_t within = chunk.begin;
    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const Range part = chunks.piece(index, round, piece);
      ASSERT_EQ(part.begin, within);
      ASSERT_LE(part.size, chunks.widest(round, piece));
      ASSERT_LE(part.size, piece);
      within += part.size;
    }
    ASSERT_EQ(within, chunk.begin + chunk.size);
    position += chunk.size;
  }
  ASSERT_EQ(position, count);
}

TEST(Chunks, CoverTheBufferForEveryWorldCountGrainAndPiece) {
  for (const int world : worlds())
    for (const std::size_t count : {0, 1, 2, 15, 16, 17, 1000, 4099})
      for (const std::size_t grain : {1, 16})
        for (const std::size_t piece : {1, 7, 64, 100'000})
          expect_cover(Chunks::split(count, world, grain), count, piece);
}

TEST(Chunks, OfEqualSharesAllHaveTheShare) {
  for (const int world : worlds()) {
    const Chunks chunks = Chunks::equal(37, world);
    expect_cover(chunks, 37 * static_cast<std::size_t>(world), 8);
    for (int index = 0; index < world; ++index) ASSERT_EQ(chunks.chunk(index).size, 37U);
  }
}

TEST(Chunks, FollowGivenOffsetsEmptyChunksIncluded) {
  const std::vector<std::size_t> offsets = {0, 5, 5, 5, 105, 106};
  const Chunks chunks = Chunks::at(offsets.data(), 5);
  expect_cover(chunks, 106, 9);
  EXPECT_EQ(chunks.rounds(9), 12U);
  EXPECT_EQ(chunks.widest(11, 9), 1U);
}

TEST(Chunks, StartOnWholeGrainsSoThatRanksDoNotShareCacheLines) {
  const Chunks chunks = Chunks::split(1000, 7, 16);
  for (int index = 0; index < 7; ++index)
    EXPECT_TRUE(chunks.chunk(index).begin % 16 == 0 || chunks.chunk(index).size == 0);
}

TEST(Chunks, WithoutElementsStillTakeOneRoundOfEmptyPieces) {
  const Chunks chunks = Chunks::split(0, 4);
  EXPECT_EQ(chunks.rounds(1024), 1U);
  EXPECT_EQ(chunks.piece(3, 0, 1024).size, 0U);
}

}  // namespace
}  // namespace ringtree
