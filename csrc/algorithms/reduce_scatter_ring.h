// Ring reduce-scatter: chunk c starts behind rank c and gathers a contribution at every rank until, at rank
// c, it is complete.
//
// n - 1 steps; each rank sends (n-1)/n of the buffer, all of it to one neighbour. The input is only read.
// Source: P. Patarasuk, X. Yuan, JPDC 69 (2009).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct reduce_scatter_ring {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {(n - 1) * rounds_of(call.bytes / n, call.piece_bytes), (n - 1) / n * call.bytes,
            (3 * n - 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        const Op& op) {
    const int rank = links.rank(), world = links.world();
    const RingNeighbours neighbours = ring_neighbours(rank, world);
    const auto next = links.to(neighbours.next);
    const auto prev = links.from(neighbours.prev);
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const auto part = [&](int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return in.part(begin, size);
      };
      const auto [begin, size] = chunks.piece(rank, round, piece);

      push(team, next, part(ring_reduce_chunk(rank, world, 0)));
      for (int step = 1; step < world - 1; ++step)
        relay(team, prev, next, part(ring_reduce_chunk(rank, world, step)), op);
      pull_combine(team, prev, out.part(begin - chunks.chunk(rank).begin, size), part(rank), op.closing());
    }
  }
};

}  // namespace ringtree
