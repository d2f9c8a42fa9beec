// Two binary trees over the same ranks, built so that a rank that has children in one is a leaf in the
// other: each tree carries half of the data and every link direction is used once.
// Source: P. Sanders, J. Speck, J. Traeff, Two-tree algorithms for full bandwidth broadcast, reduction and
// scan, Parallel Computing 35 (2009).
//
// The root stands above both trees; the other m = world - 1 ranks are their nodes 1 .. m. The first tree is
// the in-order binary tree: odd nodes are leaves, even ones have children. m = 7:
//
//             4
//          /     \            The second tree is the first one with its nodes renamed, so that odd and even
//         2       6           change places: mirrored (i -> m + 1 - i) if m is even, shifted by one
//        / \     / \          (i -> i - 1, and 1 -> m) if it is odd.
//       1   3   5   7
#pragma once

#include "core/platform.h"
#include "schedule/ring.h"

namespace ringtree {

inline constexpr int kNobody = -1;

struct TreePlace {
  int parent = kNobody;
  int children[2] = {kNobody, kNobody};
  int depth = 0;  ///< edges up to the root
};

namespace in_order {

RT_HD constexpr int height(int node) {
  int bit = 1;
  while ((node & bit) == 0) bit <<= 1;
  return bit;
}

RT_HD constexpr int root(int nodes) {
  int bit = 1;
  while (bit * 2 <= nodes) bit *= 2;
  return bit;
}

/// The root of the subtree that would be headed by `node`, cut to the nodes that exist.
RT_HD constexpr int existing(int node, int half, int nodes) {
  while (node > nodes && half > 1) {
    half /= 2;
    node -= half;
  }
  return node > nodes ? 0 : node;
}

/// 0 stands for "none", for the parent: the rank above the tree.
RT_HD constexpr int parent(int node, int nodes) {
  if (node == root(nodes)) return 0;
  int current = node;
  for (;;) {
    const int half = height(current);
    const int up = (current & (half << 1)) != 0 ? current - half : current + half;
    if (up <= nodes) return up;
    current = up;
  }
}

RT_HD constexpr int left(int node) {
  const int half = height(node);
  return half == 1 ? 0 : node - half / 2;
}

RT_HD constexpr int right(int node, int nodes) {
  const int half = height(node);
  return half == 1 ? 0 : existing(node + half / 2, half / 2, nodes);
}

}  // namespace in_order

/// The place of `rank` in tree 0 or 1 of the two trees below `root`.
RT_HD constexpr TreePlace double_tree_place(int rank, int world, int root, int tree) {
  const int nodes = world - 1;
  const bool mirrored = nodes % 2 == 0;
  const auto renamed = [&](int node) {  // the node in the first tree whose place `node` takes
    if (tree == 0 || node == 0) return node;
    if (mirrored) return nodes + 1 - node;
    return node == 1 ? nodes : node - 1;
  };
  const auto rank_at = [&](int place) {
    if (place == 0) return root;
    const int node = tree == 0 ? place : mirrored ? nodes + 1 - place : place == nodes ? 1 : place + 1;
    return modulo(node + root, world);
  };

  TreePlace result;
  if (nodes == 0) return result;
  if (rank == root) {
    result.children[0] = rank_at(in_order::root(nodes));
    return result;
  }
  const int place = renamed(modulo(rank - root, world));
  result.parent = rank_at(in_order::parent(place, nodes));
  for (int node = place; node != 0; node = in_order::parent(node, nodes)) ++result.depth;
  if (const int child = in_order::left(place); child != 0) result.children[0] = rank_at(child);
  if (const int child = in_order::right(place, nodes); child != 0) result.children[1] = rank_at(child);
  return result;
}

/// Edges between the root and the deepest node.
RT_HD constexpr int double_tree_depth(int world) {
  int depth = 0;
  for (int nodes = world - 1; nodes > 0; nodes /= 2) ++depth;
  return depth;
}

}  // namespace ringtree
