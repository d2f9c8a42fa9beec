// Ring broadcast: a chain that starts at the root. Piece follows piece, so its length costs only once.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct broadcast_ring {
  static constexpr Cost cost(const Priced& call) {
    return {call.world - 2 + rounds_of(call.bytes, call.piece_bytes), call.bytes,
            (call.world > 2 ? 4 : 2) * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<T> data, int root) {
    const int rank = links.rank();
    const RingNeighbours neighbours = ring_neighbours(rank, links.world());
    const Chunks whole = Chunks::split(data.size(), 1);
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      const Span<T> now = data.part(begin, size);
      if (rank == root)
        push(team, links.to(neighbours.next), Span<const T>(now));
      else if (neighbours.next == root)
        pull(team, links.from(neighbours.prev), now, Store::streamed);
      else
        forward(team, links.from(neighbours.prev), links.to(neighbours.next), now, Store::streamed);
    }
  }
};

}  // namespace ringtree
