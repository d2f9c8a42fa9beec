// Double binary tree all-reduce: half of the data climbs and descends each of two trees, in which every
// rank is a leaf at least once.
//
// About 2 log2(n) steps and the ring's bandwidth: pieces follow each other at every step. A rank that is
// high in a tree gets a climbing piece as many steps later, and one that is deep a descending one. Each
// expects it then and no sooner: to wait for one tree would hold up the other.
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
    if (call.world == 2) return {2 * rounds + 2, call.bytes, 5 * call.bytes};  // both trees are one edge
    // What climbs one tree and what descends the other may share a lane, which then carries two pieces a
    // round.
    const double steps = 2 * double_tree_depth(call.world) + rounds - 1;
    return {steps > 2 * rounds ? steps : 2 * rounds, call.bytes, (call.world == 3 ? 5.5 : 7) * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    constexpr int kRoot = 0;
    const TreePlace places[] = {double_tree_place(links.rank(), links.world(), kRoot, 0),
                                double_tree_place(links.rank(), links.world(), kRoot, 1)};
    const Chunks halves = Chunks::split(in.size(), 2, kCacheLine / sizeof(T));
    const std::size_t piece = links.template elements<T>(), rounds = halves.rounds(piece);
    const auto depth = static_cast<std::size_t>(double_tree_depth(links.world()));

    for (std::size_t step = 0; step < rounds + 2 * depth; ++step) {
      for (int tree = 0; tree < 2; ++tree) {
        const std::size_t round = step - (depth - places[tree].depth);  // less than none is more than all
        if (round >= rounds) continue;
        const auto [begin, size] = halves.piece(tree, round, piece);
        climb(team, links, places[tree], in.part(begin, size), out.part(begin, size), op);
      }
      for (int tree = 0; tree < 2; ++tree) {
        const std::size_t round = step - (depth + places[tree].depth);
        if (round >= rounds) continue;
        const auto [begin, size] = halves.piece(tree, round, piece);
        descend(team, links, places[tree], out.part(begin, size));
      }
    }
  }
};

}  // namespace ringtree
