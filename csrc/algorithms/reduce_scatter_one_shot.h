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
      const std::size_t stride = chunks.widest(round, piece), turn_bytes = stride * world * sizeof(T);
      const Claim slot = window.claim(team, turn_bytes);
      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = chunks.piece(peer, round, piece);
        if (peer != rank) team.copy(reinterpret_cast<T*>(slot.data) + peer * stride, in.data() + begin, size);
      }
      window.publish(team, slot, turn_bytes);

      const auto [begin, size] = chunks.piece(rank, round, piece);
      for (int peer = 0; peer < world; ++peer)
        links.sources()[peer] = peer == rank
                                    ? static_cast<const void*>(in.data() + begin)
                                    : window.view(team, peer, turn_bytes) + rank * stride * sizeof(T);
      team.combine(out.data() + (begin - chunks.chunk(rank).begin), links.sources(), world, size,
                   op.closing());
      window.done(team);
    }
  }
};

}  // namespace ringtree
