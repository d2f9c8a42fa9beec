// Double binary tree reduce: half of the data climbs each of two trees below the root.
//
// A rank that is high in a tree gets a piece as many steps later. It expects it then and no sooner: to wait
// for one tree would hold up the other.
// Source: P. Sanders, J. Speck, J. Traeff, Parallel Computing 35 (2009).
#pragma once

#include "link/tree.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/double_tree.h"

namespace ringtree {

struct reduce_double_tree {
  static constexpr Cost cost(const Priced& call) {
    const double rounds = rounds_of(call.bytes / 2, call.piece_bytes);
    if (call.world == 2) return {2 * rounds, call.bytes, 3 * call.bytes};  // both trees are one edge
    return {double_tree_depth(call.world) + rounds - 1, call.bytes / 2, 3 * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, int root, const Op& op) {
    const TreePlace places[] = {double_tree_place(links.rank(), links.world(), root, 0),
                                double_tree_place(links.rank(), links.world(), root, 1)};
    const Chunks halves = Chunks::split(in.size(), 2, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>(), rounds = halves.rounds(piece);
    const auto depth = static_cast<std::size_t>(double_tree_depth(links.world()));

    for (std::size_t step = 0; step < rounds + depth; ++step) {
      for (int tree = 0; tree < 2; ++tree) {
        const std::size_t round = step - (depth - places[tree].depth);  // less than none is more than all
        if (round >= rounds) continue;
        const auto [begin, size] = halves.piece(tree, round, piece);
        const Span<T> result = links.rank() == root ? out.part(begin, size) : Span<T>();
        climb(team, links, places[tree], in.part(begin, size), result, op);
      }
    }
  }
};

}  // namespace ringtree
