// The ring as arithmetic: rank r sends to r + 1 and receives from r - 1; chunks travel once around to be
// reduced and once more to be spread.
// Source: P. Patarasuk, X. Yuan, Bandwidth optimal all-reduce algorithms, JPDC 69 (2009).
#pragma once

#include "core/platform.h"

namespace ringtree {

RT_HD constexpr int modulo(int value, int world) {
  const int rest = value % world;
  return rest < 0 ? rest + world : rest;
}

struct RingNeighbours {
  int next, prev;
};

RT_HD constexpr RingNeighbours ring_neighbours(int rank, int world) {
  return {modulo(rank + 1, world), modulo(rank - 1, world)};
}

/// The chunk that `rank` sends in `step` of the reducing half, steps 0 .. world - 2: its own share of the
/// chunk in step 0, the partial sum that has just arrived afterwards. Chunk c thus starts at rank c + 1,
/// gathers one contribution a step and ends, complete, at rank c.
RT_HD constexpr int ring_reduce_chunk(int rank, int world, int step) {
  return modulo(rank - 1 - step, world);
}

/// The chunk that `rank` sends in `step` of the spreading half, steps 0 .. world - 2: its own, complete
/// one in step 0, what has just arrived afterwards.
RT_HD constexpr int ring_gather_chunk(int rank, int world, int step) { return modulo(rank - step, world); }

}  // namespace ringtree
