// Double binary tree reduce: half of the data climbs each of two trees below the root.
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
    return {double_tree_depth(call.world) + 2 * (rounds - 1), call.bytes / 2, 3.5 * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, int root, const Op& op) {
    const TreePlace places[] = {double_tree_place(links.rank(), links.world(), root, 0),
                                double_tree_place(links.rank(), links.world(), root, 1)};
    const Chunks halves = Chunks::split(in.size(), 2, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < halves.rounds(piece); ++round) {
      for (int tree = 0; tree < 2; ++tree) {
        const auto [begin, size] = halves.piece(tree, round, piece);
        const Span<T> result = links.rank() == root ? out.part(begin, size) : Span<T>();
        climb(team, links, places[tree], in.part(begin, size), result, op);
      }
    }
  }
};

}  // namespace ringtree
