// One-shot all-gather: everybody shows its chunk, everybody reads all.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_gather_one_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {rounds_of(call.bytes / n, call.piece_bytes * n), call.bytes / n, (2 * n + 2) / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks) {
    auto window = links.window();
    const int rank = links.rank();
    const std::size_t piece = window.template elements<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const auto part = [&](int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return out.part(begin, size);
      };
      const std::size_t begin = chunks.piece(rank, round, piece).begin - chunks.chunk(rank).begin;
      const Span<const T> own = in.part(begin, part(rank).size());

      post(team, window, own);
      fetch_all<T>(team, window, chunks.widest(round, piece), part, Store::streamed);
      team.stream(part(rank).data(), own.data(), own.size());
      window.done(team);
    }
  }
};

}  // namespace ringtree
