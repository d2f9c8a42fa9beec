// Direct scatter: the root sends everybody its share, a piece to each in turn.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct scatter_direct {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {rounds_of(call.bytes / n, call.piece_bytes), call.bytes / n, 2 * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        int root) {
    const std::size_t piece = links.template elements<T>();
    const int rank = links.rank();
    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const auto [begin, size] = chunks.piece(rank, round, piece);
      const Span<T> own = out.part(begin - chunks.chunk(rank).begin, size);
      if (rank != root) {
        pull(team, links.from(root), own, Store::streamed);
        continue;
      }
      for (int peer = 0; peer < links.world(); ++peer) {
        const auto [peer_begin, peer_size] = chunks.piece(peer, round, piece);
        if (peer != root) push(team, links.to(peer), in.part(peer_begin, peer_size));
      }
      team.copy(own.data(), in.data() + begin, size);
    }
  }
};

}  // namespace ringtree
