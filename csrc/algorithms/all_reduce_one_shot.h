// One-shot all-reduce: everybody shows everything, everybody reduces everything.
//
// One step, whatever the world size: the algorithm for small messages. Every rank combines the operands in
// the order of the ranks, so all end with the same bits.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_reduce_one_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double rounds = rounds_of(call.bytes, call.piece_bytes * call.world);
    return {rounds, call.bytes, (call.world + 3) * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    auto window = links.window();
    const Chunks whole = Chunks::split(in.size(), 1);
    const std::size_t piece = window.template elements<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      links.sources()[links.rank()] = post(team, window, in.part(begin, size));
      window.each_view(team, size * sizeof(T),
                       [&](int peer, const std::byte* shown) { links.sources()[peer] = shown; });
      team.combine(out.part(begin, size).data(), links.sources(), links.world(), size, op.closing());
      window.done(team);
    }
  }
};

}  // namespace ringtree
