// One-shot broadcast: the root shows, everybody reads.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct broadcast_one_shot {
  static constexpr Cost cost(const Priced& call) {
    return {rounds_of(call.bytes, call.piece_bytes), call.bytes, 2 * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<T> data, int root) {
    auto window = links.window();
    const Chunks whole = Chunks::split(data.size(), 1);
    const std::size_t piece = window.template elements_posted<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      if (links.rank() == root)
        post(team, window, Span<const T>(data.part(begin, size)));
      else
        fetch(team, window, root, data.part(begin, size), Store::streamed);
      window.done(team);
    }
  }
};

}  // namespace ringtree
