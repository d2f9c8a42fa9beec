// Double binary tree broadcast: half of the data descends each of two trees below the root.
//
// A rank that is deep in a tree gets a piece as many steps later. It expects it then and no sooner: to wait
// for one tree would hold up the other.
// Source: P. Sanders, J. Speck, J. Traeff, Parallel Computing 35 (2009).
#pragma once

#include "link/tree.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/double_tree.h"

namespace ringtree {

struct broadcast_double_tree {
  static constexpr Cost cost(const Priced& call) {
    const double rounds = rounds_of(call.bytes / 2, call.piece_bytes);
    if (call.world == 2) return {2 * rounds, call.bytes, 2 * call.bytes};  // both trees are one edge
    return {double_tree_depth(call.world) + rounds - 1, call.bytes / 2,
            (call.world == 3 ? 3 : 4) * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<T> data, int root) {
    const TreePlace places[] = {double_tree_place(links.rank(), links.world(), root, 0),
                                double_tree_place(links.rank(), links.world(), root, 1)};
    const Chunks halves = Chunks::split(data.size(), 2, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>(), rounds = halves.rounds(piece);
    const auto depth = static_cast<std::size_t>(double_tree_depth(links.world()));

    for (std::size_t step = 0; step < rounds + depth; ++step) {
      for (int tree = 0; tree < 2; ++tree) {
        const std::size_t round = step - places[tree].depth;  // less than none is more than all
        if (round >= rounds) continue;
        const auto [begin, size] = halves.piece(tree, round, piece);
        descend(team, links, places[tree], data.part(begin, size));
      }
    }
  }
};

}  // namespace ringtree
