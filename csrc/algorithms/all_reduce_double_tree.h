// Double binary tree all-reduce: half of the data climbs and descends each of two trees, in which every
// rank is a leaf at least once.
//
// About 2 log2(n) steps and the ring's bandwidth, once pieces follow each other closely enough to fill the
// trees: piece p climbs while piece p - lag descends.
// Source: P. Sanders, J. Speck, J. Traeff, Parallel Computing 35 (2009).
#pragma once

#include "link/tree.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/double_tree.h"

namespace ringtree {

struct all_reduce_double_tree {
  static constexpr Cost cost(const Priced& call) {
    const double rounds = rounds_of(call.bytes / 2, call.piece_bytes);
    return {2 * double_tree_depth(call.world) + 2 * (rounds - 1), call.bytes, 7 * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    constexpr int kRoot = 0;
    const TreePlace places[] = {double_tree_place(links.rank(), links.world(), kRoot, 0),
                                double_tree_place(links.rank(), links.world(), kRoot, 1)};
    const Chunks halves = Chunks::split(in.size(), 2, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>(), rounds = halves.rounds(piece);
    const std::size_t lag = static_cast<std::size_t>(double_tree_depth(links.world()));

    for (std::size_t round = 0; round < rounds + lag; ++round) {
      for (int tree = 0; round < rounds && tree < 2; ++tree) {
        const auto [begin, size] = halves.piece(tree, round, piece);
        climb(team, links, places[tree], in.part(begin, size), out.part(begin, size), op);
      }
      for (int tree = 0; round >= lag && tree < 2; ++tree) {
        const auto [begin, size] = halves.piece(tree, round - lag, piece);
        descend(team, links, places[tree], out.part(begin, size));
      }
    }
  }
};

}  // namespace ringtree
