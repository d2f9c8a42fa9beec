// Zero-copy all-gather: everybody copies from everybody's buffer, beginning with the next rank's.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct all_gather_zero_copy {
  static constexpr Access kAccess = Access::copy;

  static constexpr Cost cost(const Priced& call) { return {2, call.bytes / call.world, 2 * call.bytes}; }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    for (int step = 1; step < world; ++step) {
      const int peer = modulo(rank + step, world);
      const auto [begin, size] = chunks.chunk(peer);
      team.get(peer, out.data() + begin, links.template input_of<T>(peer), size);
    }
    team.stream(out.data() + chunks.chunk(rank).begin, in.data(), in.size());
    assemble(team, window);
  }
};

}  // namespace ringtree
