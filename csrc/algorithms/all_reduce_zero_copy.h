// Zero-copy all-reduce: rank r reduces chunk r straight out of everybody's buffer, and into everybody's.
//
// Nobody else touches chunk r, so the result may replace the input. Each operand is read once and each
// result written once: no algorithm moves less.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_reduce_zero_copy {
  static constexpr Access kAccess = Access::use;

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2, 2 * call.bytes / n, (3 * n - 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const Range mine = Chunks::split(in.size(), world, kCacheLine / sizeof(T)).chunk(rank);
    const Chunks pieces = Chunks::split(mine.size, 1);
    const std::size_t piece = links.template elements<T>();  // still in the cache when it is copied

    for (std::size_t round = 0; round < pieces.rounds(piece); ++round) {
      const auto [offset, size] = pieces.piece(0, round, piece);
      const std::size_t begin = mine.begin + offset;
      for (int peer = 0; peer < world; ++peer)
        links.sources()[peer] = links.template input_of<T>(peer) + begin;
      team.combine(out.data() + begin, links.sources(), world, size, op.closing());
      team.sync();
      for (int peer = 0; peer < world; ++peer)
        if (peer != rank) team.copy(links.template output_of<T>(peer) + begin, out.data() + begin, size);
    }
    assemble(team, window);
  }
};

}  // namespace ringtree
