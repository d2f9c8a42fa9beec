// One-shot barrier: everybody says that it is here and looks at everybody.
#pragma once

#include "link/exchange.h"
#include "schedule/cost.h"

namespace ringtree {

struct barrier_one_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) { return {1, 0, 128.0 * call.world}; }

  template <class Team, class Links>
  RT_HD static void run(Team& team, Links& links) {
    auto window = links.window();
    assemble(team, window);
  }
};

}  // namespace ringtree
