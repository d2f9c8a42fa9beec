// Two-shot all-reduce: each rank reduces its own chunk out of everybody's window and shows the result.
//
//     shot 1   rank r shows all other chunks, reads chunk r from every peer, reduces it
//     shot 2   rank r shows the reduced chunk r, reads the others
//
// Least bytes, and two steps a round whatever the world size: the bandwidth algorithm on one host.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_reduce_two_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2 * rounds_of(call.bytes / n, call.piece_bytes), 2 * call.bytes / n,
            (5 * n - 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const Chunks chunks = Chunks::split(in.size(), world, kCacheLine / sizeof(T));
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t width = chunks.widest(round, piece);
      const auto part = [&](auto buffer, int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return buffer.part(begin, size);
      };

      post_parts<T>(team, links, window, width, [&](int peer) { return part(in, peer); });
      links.sources()[rank] = part(in, rank).data();
      window.each_part(team, width * sizeof(T),
                       [&](int peer, const std::byte* shown) { links.sources()[peer] = shown; });
      const Span<T> mine = part(out, rank);
      team.combine(mine.data(), links.sources(), world, mine.size(), op.closing());
      window.done(team);

      post(team, window, Span<const T>(mine));
      fetch_all<T>(team, window, width, [&](int peer) { return part(out, peer); });
      window.done(team);
    }
  }
};

}  // namespace ringtree
