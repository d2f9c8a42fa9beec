// One piece up or down one tree. The place in the tree decides what a rank does: nothing here asks who is
// a leaf.
#pragma once

#include "core/platform.h"
#include "core/span.h"
#include "link/exchange.h"
#include "schedule/double_tree.h"

namespace ringtree {

/// Combines the children's pieces with `local` and sends the result to the parent; the root keeps it in
/// `result` instead. Operands stand in the order left child, own, right child.
template <class Team, class Links, class T, class Op>
RT_HD void climb(Team& team, Links& links, const TreePlace& place, Span<const T> local, Span<T> result,
                 const Op& op) {
  const std::size_t bytes = local.size_bytes();
  Claim arrived[2];
  const void* sources[3];
  int operands = 0;
  for (int side = 0; side < 2; ++side) {
    if (side == 1) sources[operands++] = local.data();
    if (place.children[side] == kNobody) continue;
    arrived[side] = links.from(place.children[side]).arrival(team, bytes);
    sources[operands++] = arrived[side].data;
  }
  if (place.parent == kNobody) {
    team.combine(result.data(), sources, operands, local.size(), op.closing());
  } else {
    auto parent = links.to(place.parent);
    auto way = team.combining_way_to(place.parent, bytes);
    const Claim slot = parent.claim(team, bytes, way.roams());
    team.put_combined(way, reinterpret_cast<T*>(slot.data), sources, operands, local.size(), op);
    parent.publish(team, slot, bytes);
  }
  for (int side = 0; side < 2; ++side)
    if (place.children[side] != kNobody) links.from(place.children[side]).release(team, arrived[side]);
}

/// Receives `piece` from the parent, unless this is the root, and sends it to the children.
template <class Team, class Links, class T>
RT_HD void descend(Team& team, Links& links, const TreePlace& place, Span<T> piece) {
  if (place.parent != kNobody) pull(team, links.from(place.parent), piece);
  for (const int child : place.children)
    if (child != kNobody) push(team, links.to(child), Span<const T>(piece));
}

}  // namespace ringtree
