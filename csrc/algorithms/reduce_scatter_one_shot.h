// One-shot reduce-scatter: each rank shows what its peers need and reduces its own chunk out of everybody's
// window.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct reduce_scatter_one_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {rounds_of(call.bytes / n, call.piece_bytes), call.bytes / n, (3 * n - 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        const Op& op) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t width = chunks.widest(round, piece);
      const auto part = [&](int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return in.part(begin, size);
      };
      post_parts<T>(team, links, window, width, part);

      const auto [begin, size] = chunks.piece(rank, round, piece);
      links.sources()[rank] = part(rank).data();
      window.each_part(team, width * sizeof(T),
                       [&](int peer, const std::byte* shown) { links.sources()[peer] = shown; });
      team.combine(out.data() + (begin - chunks.chunk(rank).begin), links.sources(), world, size,
                   op.closing());
      window.done(team);
    }
  }
};

}  // namespace ringtree
