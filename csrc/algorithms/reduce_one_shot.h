// One-shot reduce: everybody shows everything, the root reduces.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct reduce_one_shot {
  static constexpr Cost cost(const Priced& call) {
    const double rounds = rounds_of(call.bytes, call.piece_bytes);
    return {rounds, call.bytes, (call.world + 1) * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, int root, const Op& op) {
    auto window = links.window();
    const Chunks whole = Chunks::split(in.size(), 1);
    const std::size_t piece = window.template elements_posted<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      if (links.rank() != root) {
        post_to(team, window, root, in.part(begin, size));
      } else {
        links.sources()[root] = in.data() + begin;
        window.each_view(team, size * sizeof(T),
                         [&](int peer, const std::byte* shown) { links.sources()[peer] = shown; });
        team.combine(out.data() + begin, links.sources(), links.world(), size, op.closing());
      }
      window.done(team);
    }
  }
};

}  // namespace ringtree
