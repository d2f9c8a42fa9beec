// Zero-copy reduce-scatter: each rank reduces its chunk straight out of everybody's buffer.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct reduce_scatter_zero_copy {
  static constexpr Access kAccess = Access::use;

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2, call.bytes / n, (n + 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> /*in*/, Span<T> out, const Chunks& chunks,
                        const Op& op) {
    auto window = links.window();
    const int world = links.world();
    const auto [begin, size] = chunks.chunk(links.rank());
    for (int peer = 0; peer < world; ++peer) links.sources()[peer] = links.template input_of<T>(peer) + begin;
    team.combine(out.data(), links.sources(), world, size, op.closing());
    assemble(team, window);
  }
};

}  // namespace ringtree
