// Ring all-reduce: chunks travel once around the ring to be reduced and once more to be spread.
//
//     n = 4, chunk 0:  rank 1 --> rank 2 --> rank 3 --> rank 0   (complete)
//                      rank 0 --> rank 1 --> rank 2 --> rank 3   (spread)
//
// 2(n-1) steps; each rank sends 2(n-1)/n of the buffer, all of it to one neighbour.
// Source: P. Patarasuk, X. Yuan, JPDC 69 (2009).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct all_reduce_ring {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world, rounds = rounds_of(call.bytes / n, call.piece_bytes);
    return {2 * (n - 1) * rounds, 2 * (n - 1) / n * call.bytes, (7 * n - 5) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    const int rank = links.rank(), world = links.world();
    const RingNeighbours neighbours = ring_neighbours(rank, world);
    const auto next = links.to(neighbours.next);
    const auto prev = links.from(neighbours.prev);
    const Chunks chunks = Chunks::split(in.size(), world, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const auto part = [&](auto buffer, int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return buffer.part(begin, size);
      };

      push(team, next, part(in, ring_reduce_chunk(rank, world, 0)));
      for (int step = 1; step < world - 1; ++step)
        relay(team, prev, next, part(in, ring_reduce_chunk(rank, world, step)), op);
      pull_combine(team, prev, part(out, rank), part(in, rank), op.closing());

      push(team, next, Span<const T>(part(out, rank)));
      for (int step = 1; step < world - 1; ++step)
        forward(team, prev, next, part(out, ring_gather_chunk(rank, world, step)));
      pull(team, prev, part(out, ring_gather_chunk(rank, world, world - 1)));
    }
  }
};

}  // namespace ringtree
