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

/// The slices of one chunk follow one another and cover it; none needs more rounds than the slices say.
void expect_slices_cover(const Chunks& chunks, int slices, std::size_t grain, std::size_t piece) {
  for (int index = 0; index < chunks.chunks(); ++index) {
    std::size_t position = chunks.chunk(index).begin;
    for (int slice = 0; slice < slices; ++slice) {
      const Chunks part = chunks.slice(slice, slices, grain);
      const Range range = part.chunk(index);
      ASSERT_EQ(part.count(), chunks.count());
      ASSERT_EQ(range.begin, position);
      ASSERT_TRUE(range.size == 0 || (range.begin - chunks.chunk(index).begin) % grain == 0);
      std::size_t handled = 0;
      for (std::size_t round = 0; round < part.rounds(piece); ++round) {
        ASSERT_LE(part.piece(index, round, piece).size, part.widest(round, piece));
        handled += part.piece(index, round, piece).size;
      }
      ASSERT_EQ(handled, range.size);
      position += range.size;
    }
    ASSERT_EQ(position, chunks.chunk(index).begin + chunks.chunk(index).size);
  }
}

TEST(Chunks, SlicesCoverEveryChunkOnceForEqualAndForUnequalChunks) {
  const std::vector<std::size_t> offsets = {0, 5, 5, 64, 1105, 1106};
  for (const int slices : {1, 2, 3, 8})
    for (const std::size_t grain : {1, 16})
      for (const std::size_t piece : {7, 64}) {
        expect_slices_cover(Chunks::at(offsets.data(), 5), slices, grain, piece);
        for (const std::size_t share : {0, 1, 15, 16, 17, 257})
          expect_slices_cover(Chunks::equal(share, 5), slices, grain, piece);
      }
}

TEST(Chunks, WithoutElementsStillTakeOneRoundOfEmptyPieces) {
  const Chunks chunks = Chunks::split(0, 4);
  EXPECT_EQ(chunks.rounds(1024), 1U);
  EXPECT_EQ(chunks.piece(3, 0, 1024).size, 0U);
}

}  // namespace
}  // namespace ringtree
