// Ring all-gather: every chunk travels once around the ring.
//
// n - 1 steps; each rank sends (n-1)/n of the result, all of it to one neighbour.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct all_gather_ring {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {(n - 1) * rounds_of(call.bytes / n, call.piece_bytes), (n - 1) / n * call.bytes,
            (4 * n - 2) / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks) {
    const int rank = links.rank(), world = links.world();
    const RingNeighbours neighbours = ring_neighbours(rank, world);
    const auto next = links.to(neighbours.next);
    const auto prev = links.from(neighbours.prev);
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const auto part = [&](int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return out.part(begin, size);
      };
      const auto [begin, size] = chunks.piece(rank, round, piece);
      const Span<const T> own = in.part(begin - chunks.chunk(rank).begin, size);

      push(team, next, own);
      team.copy(part(rank).data(), own.data(), size);
      for (int step = 1; step < world - 1; ++step)
        forward(team, prev, next, part(ring_gather_chunk(rank, world, step)), Store::streamed);
      pull(team, prev, part(ring_gather_chunk(rank, world, world - 1)), Store::streamed);
    }
  }
};

}  // namespace ringtree
