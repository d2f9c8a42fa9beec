// Zero-copy all-to-all: everybody copies its share from everybody's buffer, beginning with the next rank's.
//
// Where in its peers' buffers a share lies is known only if all shares are equal.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct all_to_all_zero_copy {
  static constexpr bool kEvenOnly = true;
  static constexpr Access kAccess = Access::copy;

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2, call.bytes / n / n, 2 / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, const Chunks& in_chunks, Span<T> out,
                        const Chunks& out_chunks) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const std::size_t share = in_chunks.chunk(rank).begin;
    for (int step = 1; step < world; ++step) {
      const int peer = modulo(rank + step, world);
      const auto [begin, size] = out_chunks.chunk(peer);
      team.get(peer, out.data() + begin, links.template input_of<T>(peer) + share, size);
    }
    const auto [begin, size] = out_chunks.chunk(rank);
    team.stream(out.data() + begin, in.data() + share, size);
    assemble(team, window);
  }
};

}  // namespace ringtree
