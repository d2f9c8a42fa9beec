// What an algorithm declares about itself: the tracer holds it against what the algorithm does; the chooser,
// the documentation and `ringtree plan` read it.
#pragma once

#include "core/platform.h"

namespace ringtree {

/// The call that is priced. `bytes` is the whole buffer: of each rank for all_reduce, reduce and broadcast;
/// of all ranks together for the collectives that gather, scatter or exchange shares.
struct Priced {
  int world;
  double bytes;
  double piece_bytes;  ///< what one slot, or one peer's share of a window slot, holds
};

struct Cost {
  double steps;           ///< hand-overs between ranks that follow one another
  double bytes_per_link;  ///< the most that one rank sends to, or reads from, any one other
  double moved_bytes;     ///< read plus written by the busiest rank, caches or not
};

constexpr int ceil_log2(int world) {
  int steps = 0;
  while ((1 << steps) < world) ++steps;
  return steps;
}

/// Rounds of pieces that `bytes` take.
constexpr double rounds_of(double bytes, double piece_bytes) {
  const double rounds = static_cast<double>(static_cast<long long>((bytes + piece_bytes - 1) / piece_bytes));
  return rounds < 1 ? 1 : rounds;
}

}  // namespace ringtree
