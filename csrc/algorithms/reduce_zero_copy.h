// Zero-copy reduce: rank r reduces chunk r straight out of everybody's buffer, and into the root's.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct reduce_zero_copy {
  static constexpr Access kAccess = Access::use;

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2, 2 * call.bytes / n, (n + 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> /*out*/, int root, const Op& op) {
    auto window = links.window();
    const int world = links.world();
    const auto [begin, size] = Chunks::split(in.size(), world, kCacheLine / sizeof(T)).chunk(links.rank());
    for (int peer = 0; peer < world; ++peer) links.sources()[peer] = links.template input_of<T>(peer) + begin;
    team.combine(links.template output_of<T>(root) + begin, links.sources(), world, size, op.closing());
    assemble(team, window);
  }
};

}  // namespace ringtree
