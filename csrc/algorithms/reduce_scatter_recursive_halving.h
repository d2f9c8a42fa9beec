// Recursive halving reduce-scatter: from the highest bit down, partners exchange the half that the other
// one answers for, until each has reduced its own.
//
// log2(n) steps: small shares between many ranks. The pieces of a round lie side by side in scratch memory,
// so that each exchange is one message and the input is only read. Ranks without a corner of the hypercube
// give everything to the next rank and get their share back.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/halving_doubling.h"

namespace ringtree {

struct reduce_scatter_recursive_halving {
  static constexpr bool kHostOnly = true;  // what one_shot does in one step, where peers are a load away

  static constexpr Cost cost(const Priced& call) {
    const Hypercube cube(call.world);
    const double n = call.world, own = cube.first_rank(1), folds = cube.rest() > 0 ? 1 : 0;
    return {cube.exchanges() * rounds_of(call.bytes, call.piece_bytes),
            folds > 0 ? call.bytes : call.bytes / 2,
            (2 + 2 * folds + 3 * cube.shares_on_the_way() + 2 * (n - own) + 3 * folds * n + 2 * n) / n *
                call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        const Op& op) {
    const Hypercube cube(links.world());
    const int rank = links.rank(), world = links.world();
    const std::size_t piece = links.template elements<T>() / world;
    T* const scratch = links.template scratch<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t stride = chunks.widest(round, piece);
      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = chunks.piece(peer, round, piece);
        team.copy(scratch + peer * stride, in.data() + begin, size);
      }
      team.sync();
      reduce_in_scratch(team, links, cube, Span<T>(scratch, stride * world), stride, op);
      team.sync();
      const auto [begin, size] = chunks.piece(rank, round, piece);
      team.copy(out.data() + (begin - chunks.chunk(rank).begin), scratch + rank * stride, size);
    }
  }

 private:
  /// Reduces this rank's piece of `all`; the other pieces end as partial sums.
  template <class Team, class Links, class T, class Op>
  RT_HD static void reduce_in_scratch(Team& team, Links& links, const Hypercube& cube, Span<T> all,
                                      std::size_t stride, const Op& op) {
    const int rank = links.rank();
    if (cube.is_folded(rank)) {
      push(team, links.to(rank + 1), Span<const T>(all));
      pull(team, links.from(rank + 1), all.part(rank * stride, stride));
      return;
    }
    if (cube.is_speaker(rank)) pull_combine(team, links.from(rank - 1), all, Span<const T>(all), op);

    const int corner = cube.corner_of(rank);
    const auto pieces_at = [&](int of_corner, int bit) {
      const CornerRange corners = corners_sharing(of_corner, bit);
      const int first = cube.first_rank(corners.begin), end = cube.first_rank(corners.end);
      return all.part(first * stride, (end - first) * stride);
    };
    for (int bit = cube.steps - 1; bit >= 0; --bit) {
      const int partner = cube.partner(rank, bit);
      push(team, links.to(partner), Span<const T>(pieces_at(corner ^ (1 << bit), bit)));
      pull_combine(team, links.from(partner), pieces_at(corner, bit), Span<const T>(pieces_at(corner, bit)),
                   bit == 0 ? op.closing() : op, partner < rank ? Arrival::left : Arrival::right);
    }
    if (cube.is_speaker(rank))
      push(team, links.to(rank - 1), Span<const T>(all.part((rank - 1) * stride, stride)));
  }
};

}  // namespace ringtree
