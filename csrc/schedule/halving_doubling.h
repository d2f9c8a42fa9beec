// Hypercube exchanges: in step k a rank meets the one whose number differs in bit k. World sizes that are
// no power of two first fold: of the first 2 * rest ranks, each odd one speaks for the even one below it.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, Optimization of collective communication operations in
// MPICH, IJHPCA 19 (2005).
#pragma once

#include "core/platform.h"

namespace ringtree {

struct Hypercube {
  int world;
  int cube;   ///< the largest power of two <= world
  int steps;  ///< log2(cube)

  RT_HD explicit constexpr Hypercube(int world_size) : world(world_size), cube(1), steps(0) {
    while (cube * 2 <= world) {
      cube *= 2;
      ++steps;
    }
  }

  /// Hand-overs that follow one another where everybody's data reach everybody, folding and unfolding
  /// included. What a speaker got from its folded rank reaches another speaker, and so its folded one, in as
  /// many steps as their corners differ in bits: all of them only if more than half of the corners speak.
  RT_HD constexpr int exchanges() const { return steps + (rest() == 0 ? 0 : rest() <= cube / 2 ? 1 : 2); }

  /// The sum of the shares, one a rank, that corner 0 is responsible for during its exchanges.
  RT_HD constexpr int shares_on_the_way() const {
    int shares = 0;
    for (int bit = 0; bit < steps; ++bit) shares += first_rank(1 << bit);
    return shares;
  }

  /// Ranks that have no corner of their own.
  RT_HD constexpr int rest() const { return world - cube; }

  /// Whether `rank` is spoken for by rank + 1.
  RT_HD constexpr bool is_folded(int rank) const { return rank < 2 * rest() && rank % 2 == 0; }

  /// Whether `rank` speaks for rank - 1 as well.
  RT_HD constexpr bool is_speaker(int rank) const { return rank < 2 * rest() && rank % 2 == 1; }

  /// The corner of the cube where `rank` (not a folded one) stands.
  RT_HD constexpr int corner_of(int rank) const { return rank < 2 * rest() ? rank / 2 : rank - rest(); }

  RT_HD constexpr int rank_at(int corner) const { return corner < rest() ? 2 * corner + 1 : corner + rest(); }

  RT_HD constexpr int partner(int rank, int bit) const { return rank_at(corner_of(rank) ^ (1 << bit)); }

  /// The first of the ranks that stand at, or are spoken for by, `corner`. Corners below c own together
  /// the ranks below first_rank(c): corners are in the ranks' order.
  RT_HD constexpr int first_rank(int corner) const { return corner < rest() ? 2 * corner : corner + rest(); }
};

/// The corners [begin, end) for whose share a corner is still responsible after the exchanges over the bits
/// above `bit` (halving: from the highest bit down).
struct CornerRange {
  int begin, end;
};

RT_HD constexpr CornerRange corners_sharing(int corner, int bit) {
  const int width = 1 << bit;
  return {corner / width * width, corner / width * width + width};
}

}  // namespace ringtree
