// Zero-copy gather: the root copies from everybody's buffer.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct gather_zero_copy {
  static constexpr Access kAccess = Access::copy;

  static constexpr Cost cost(const Priced& call) { return {2, call.bytes / call.world, 2 * call.bytes}; }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        int root) {
    auto window = links.window();
    const int world = links.world();
    if (links.rank() == root) {
      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = chunks.chunk(peer);
        if (peer != root) team.get(peer, out.data() + begin, links.template input_of<T>(peer), size);
      }
      team.copy(out.data() + chunks.chunk(root).begin, in.data(), in.size());
    }
    assemble(team, window);
  }
};

}  // namespace ringtree
