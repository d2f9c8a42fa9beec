// Zero-copy broadcast: everybody copies from the root's buffer.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/cost.h"

namespace ringtree {

struct broadcast_zero_copy {
  static constexpr Access kAccess = Access::copy;

  static constexpr Cost cost(const Priced& call) { return {2, call.bytes, 2 * call.bytes}; }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<T> data, int root) {
    auto window = links.window();
    if (links.rank() != root) team.get(root, data.data(), links.template input_of<T>(root), data.size());
    assemble(team, window);
  }
};

}  // namespace ringtree
