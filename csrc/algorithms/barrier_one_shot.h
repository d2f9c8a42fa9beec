// One-shot barrier: everybody says that it is here and looks at everybody.
#pragma once

#include "link/window.h"
#include "schedule/cost.h"

namespace ringtree {

struct barrier_one_shot {
  static constexpr Cost cost(const Priced& call) { return {1, 0, 128.0 * call.world}; }

  template <class Team, class Links>
  RT_HD static void run(Team& team, Links& links) {
    auto window = links.window();
    window.publish(team, window.claim(team, 0), 0);
    for (int peer = 0; peer < links.world(); ++peer) window.view(team, peer, 0);
    window.done(team);
  }
};

}  // namespace ringtree
