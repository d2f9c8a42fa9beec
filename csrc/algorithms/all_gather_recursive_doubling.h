// Recursive doubling all-gather: in step k partners over bit k exchange all that they have gathered.
//
// log2(n) steps: small shares between many ranks. The pieces of a round are gathered side by side in
// scratch memory, so that each exchange is one message. Ranks without a corner of the hypercube hand their
// share to the next rank and get everything back.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/halving_doubling.h"

namespace ringtree {

struct all_gather_recursive_doubling {
  static constexpr bool kHostOnly = true;  // what one_shot does in one step, where peers are a load away

  static constexpr Cost cost(const Priced& call) {
    const Hypercube cube(call.world);
    const double folds = cube.rest() > 0 ? 2 : 0;
    const double n = call.world, own = cube.first_rank(1);
    return {cube.exchanges() * rounds_of(call.bytes, call.piece_bytes),
            folds > 0 ? call.bytes : call.bytes / 2,
            (2 + folds + 2 * cube.shares_on_the_way() + 2 * (n - own) + folds * n + 2 * n) / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks) {
    const Hypercube cube(links.world());
    const int rank = links.rank(), world = links.world();
    const std::size_t piece = links.template elements<T>() / world;
    T* const scratch = links.template scratch<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t stride = chunks.widest(round, piece);
      const auto [begin, size] = chunks.piece(rank, round, piece);
      team.copy(scratch + rank * stride, in.data() + (begin - chunks.chunk(rank).begin), size);
      team.sync();
      gather_in_scratch(team, links, cube, Span<T>(scratch, stride * world), stride);
      team.sync();
      for (int peer = 0; peer < world; ++peer) {
        const auto [peer_begin, peer_size] = chunks.piece(peer, round, piece);
        team.copy(out.data() + peer_begin, scratch + peer * stride, peer_size);
      }
    }
  }

 private:
  /// Fills `all`, of which only this rank's piece is known at first.
  template <class Team, class Links, class T>
  RT_HD static void gather_in_scratch(Team& team, Links& links, const Hypercube& cube, Span<T> all,
                                      std::size_t stride) {
    const int rank = links.rank();
    if (cube.is_folded(rank)) {
      push(team, links.to(rank + 1), Span<const T>(all.part(rank * stride, stride)));
      pull(team, links.from(rank + 1), all);
      return;
    }
    if (cube.is_speaker(rank)) pull(team, links.from(rank - 1), all.part((rank - 1) * stride, stride));

    const int corner = cube.corner_of(rank);
    const auto pieces_at = [&](int of_corner, int bit) {
      const CornerRange corners = corners_sharing(of_corner, bit);
      const int first = cube.first_rank(corners.begin), end = cube.first_rank(corners.end);
      return all.part(first * stride, (end - first) * stride);
    };
    for (int bit = 0; bit < cube.steps; ++bit) {
      const int partner = cube.partner(rank, bit);
      push(team, links.to(partner), Span<const T>(pieces_at(corner, bit)));
      pull(team, links.from(partner), pieces_at(corner ^ (1 << bit), bit));
    }
    if (cube.is_speaker(rank)) push(team, links.to(rank - 1), Span<const T>(all));
  }
};

}  // namespace ringtree
