// Chunks and pieces: which elements are whose. All index and remainder arithmetic on buffers lives here.
//
//     a buffer of `count` elements      |.............................................|
//     falls into one chunk a rank       |  chunk 0  |  chunk 1  |  chunk 2  | chunk 3 |
//     and each chunk into pieces        |p0 |p1 |p2 |p0 |p1 |p2 |p0 |p1 |p2 |p0 |p1 |p2
//     that fit a slot; piece r of every chunk is handled in round r.
//
// Where several teams work on one call, each takes the same slice of every chunk.
#pragma once

#include <cstddef>

#include "core/platform.h"

namespace ringtree {

struct Range {
  std::size_t begin, size;
};

class Chunks {
 public:
  /// `chunks` shares of a buffer, equal but for the last ones. Each but the last is a multiple of `grain`
  /// elements (a cache line's worth, say), so that ranks do not write to one line.
  RT_HD static constexpr Chunks split(std::size_t count, int chunks, std::size_t grain = 1) {
    const std::size_t share =
        (count + static_cast<std::size_t>(chunks) - 1) / static_cast<std::size_t>(chunks);
    return {count, chunks, (share + grain - 1) / grain * grain, nullptr};
  }

  /// `chunks` shares of exactly `share` elements.
  RT_HD static constexpr Chunks equal(std::size_t share, int chunks) {
    return {share * static_cast<std::size_t>(chunks), chunks, share, nullptr};
  }

  /// Shares of any sizes: chunk i is [offsets[i], offsets[i + 1]). `offsets` is borrowed.
  RT_HD static constexpr Chunks at(const std::size_t* offsets, int chunks) {
    std::size_t largest = 0;
    for (int i = 0; i < chunks; ++i)
      if (offsets[i + 1] - offsets[i] > largest) largest = offsets[i + 1] - offsets[i];
    // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): there is at least one chunk
    return {offsets[chunks], chunks, largest, offsets};
  }

  /// Slice `index` of `slices` of every chunk, as if that were all there is. Slices begin at multiples of
  /// `grain` elements from their chunk's beginning.
  RT_HD constexpr Chunks slice(int index, int slices, std::size_t grain) const {
    Chunks part = *this;
    if (slices == 1) return part;
    part.slice_ = index;
    part.slices_ = slices;
    part.grain_ = grain;
    part.share_ = slice_of(share_, 0, slices, grain).size;  // no slice of any chunk is larger
    return part;
  }

  RT_HD constexpr int chunks() const { return chunks_; }
  RT_HD constexpr std::size_t count() const { return count_; }

  RT_HD constexpr Range chunk(int index) const {
    const Range whole = whole_chunk(index);
    if (slices_ == 1) return whole;
    const Range part = slice_of(whole.size, slice_, slices_, grain_);
    return {whole.begin + part.begin, part.size};
  }

  /// Chunk `index` with the slices of all teams.
  RT_HD constexpr Range whole_chunk(int index) const {
    if (offsets_ != nullptr) return {offsets_[index], offsets_[index + 1] - offsets_[index]};
    const std::size_t begin = clamp(static_cast<std::size_t>(index) * stride_);
    return {begin, clamp(begin + stride_) - begin};
  }

  /// Rounds that the largest chunk needs with `piece` elements a round. At least one: a call without
  /// elements still sends its (empty) messages, and so is still compared with its peers'.
  RT_HD constexpr std::size_t rounds(std::size_t piece) const {
    return share_ <= piece ? 1 : (share_ + piece - 1) / piece;
  }

  /// The part of chunk `index` that is handled in `round`; empty once the chunk is used up.
  RT_HD constexpr Range piece(int index, std::size_t round, std::size_t piece) const {
    const Range whole = chunk(index);
    const std::size_t skipped = round * piece < whole.size ? round * piece : whole.size;
    const std::size_t left = whole.size - skipped;
    return {whole.begin + skipped, left < piece ? left : piece};
  }

  /// Elements of the largest of all chunks' pieces in `round`.
  RT_HD constexpr std::size_t widest(std::size_t round, std::size_t piece) const {
    const std::size_t skipped = round * piece < share_ ? round * piece : share_;
    return share_ - skipped < piece ? share_ - skipped : piece;
  }

 private:
  RT_HD constexpr Chunks(std::size_t count, int chunks, std::size_t share, const std::size_t* offsets)
      : count_(count), stride_(share), share_(share), offsets_(offsets), chunks_(chunks) {}

  RT_HD static constexpr Range slice_of(std::size_t size, int index, int slices, std::size_t grain) {
    return split(size, slices, grain).whole_chunk(index);
  }

  RT_HD constexpr std::size_t clamp(std::size_t position) const {
    return position < count_ ? position : count_;
  }

  std::size_t count_;
  std::size_t stride_;  ///< from one chunk to the next, where they are equal
  std::size_t share_;   ///< the largest chunk, or slice of one
  const std::size_t* offsets_;
  int chunks_;
  int slice_ = 0, slices_ = 1;
  std::size_t grain_ = 1;
};

}  // namespace ringtree
