// Ring reduce: a chain that ends at the root. Piece follows piece, so the chain's length costs only once.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct reduce_ring {
  static constexpr Cost cost(const Priced& call) {
    return {call.world - 2 + rounds_of(call.bytes, call.piece_bytes), call.bytes, 3 * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, int root, const Op& op) {
    const int rank = links.rank(), world = links.world();
    const RingNeighbours neighbours = ring_neighbours(rank, world);
    const Chunks whole = Chunks::split(in.size(), 1);
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      const Span<const T> local = in.part(begin, size);
      if (rank == root)
        pull_combine(team, links.from(neighbours.prev), out.part(begin, size), local, op.closing());
      else if (neighbours.prev == root)
        push(team, links.to(neighbours.next), local);
      else
        relay(team, links.from(neighbours.prev), links.to(neighbours.next), local, op);
    }
  }
};

}  // namespace ringtree
