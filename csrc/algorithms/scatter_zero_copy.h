// Zero-copy scatter: everybody copies its share from the root's buffer.
#pragma once

#include "link/exchange.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct scatter_zero_copy {
  static constexpr Access kAccess = Access::copy;

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2, call.bytes / n, 2 * call.bytes / n};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Chunks& chunks,
                        int root) {
    auto window = links.window();
    const int rank = links.rank();
    const std::size_t begin = chunks.chunk(rank).begin;
    if (rank == root)
      team.copy(out.data(), in.data() + begin, out.size());
    else
      team.get(root, out.data(), links.template input_of<T>(root) + begin, out.size());
    assemble(team, window);
  }
};

}  // namespace ringtree
