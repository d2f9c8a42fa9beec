// Dissemination barrier: in step k every rank tells the one 2^k further on; ceil(log2 n) steps.
// Source: D. Hensgen, R. Finkel, U. Manber, IJPP 17 (1988).
#pragma once

#include "link/exchange.h"
#include "schedule/cost.h"
#include "schedule/dissemination.h"

namespace ringtree {

struct barrier_dissemination {
  static constexpr Cost cost(const Priced& call) {
    const double steps = dissemination_steps(call.world);
    return {steps, 0, 128 * steps};
  }

  template <class Team, class Links>
  RT_HD static void run(Team& team, Links& links) {
    for (int step = 0; step < dissemination_steps(links.world()); ++step) {
      const DisseminationStep now = dissemination_step(links.rank(), links.world(), step);
      push(team, links.to(now.to), Span<const std::byte>());
      pull(team, links.from(now.from), Span<std::byte>());
    }
  }
};

}  // namespace ringtree
