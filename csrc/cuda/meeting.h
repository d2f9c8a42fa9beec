// How ranks come to read, and write, each other's buffers on the device: as communicator/reach.h does it, but
// inside the kernel.
//
// Ranks of one process pass addresses. What lies on another GPU they reach if cudaMalloc gave it: peer access
// opens neither CUDA's pools nor what cuMemMap has mapped. Between processes a buffer is named by the block
// of memory that it lies in: its owner has numbered it, and peers map it when they next make a call. A rank
// says how many blocks of each peer it had mapped when it launched. All see the same offers, and so decide
// alike; no host waits for another, and a replayed graph decides as it did when it was captured.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/links.h"
#include "cuda/state.h"
#include "link/exchange.h"

namespace ringtree {

/// Whether `who` reaches the buffers that `whose` offers, as far as `access` needs them.
__device__ inline bool reaches(const DeviceOffer& who, const DeviceOffer& whose, int whose_rank,
                               bool needs_output) {
  if (who.process == whose.process)
    return who.device == whose.device || (whose.in_is_plain && (!needs_output || whose.out_is_plain));
  const auto is_mapped = [&](const BufferPlace& place) {
    return place.block != 0 && place.block <= who.known[place.kind][whose_rank];
  };
  return is_mapped(whose.in_place) && (!needs_output || is_mapped(whose.out_place));
}

/// Where the rank of `own` reaches what `peer`, a rank of another process, has at `place`; null: nowhere.
/// `blocks` is in memory of the host.
__device__ inline std::byte* address_of(const BufferPlace& place, int peer, const DeviceOffer& own,
                                        const MappedBlocks* blocks) {
  if (place.block == 0 || place.block > own.known[place.kind][peer]) return nullptr;
  return blocks[peer].bases[place.kind][place.block - 1] + place.offset;
}

/// Shows the peers this rank's buffers and looks at theirs; whether every rank reaches all of them. The same
/// on all ranks and channels. `blocks` has an entry a rank.
template <class Team>
__device__ bool meet(Team& team, ArrayLinks& links, const DeviceOffer& own, const MappedBlocks* blocks,
                     bool needs_output) {
  auto window = links.window();
  const Claim slot = window.claim(team, sizeof(DeviceOffer));
  if (team.leads()) *reinterpret_cast<DeviceOffer*>(slot.data) = own;
  window.publish(team, slot, sizeof(DeviceOffer));
  // A lane waits for one rank, brings its offer here and finds its buffers: to do that for one rank after the
  // other would take several loads from memory of others, and of the host, for each.
  auto* const offers = reinterpret_cast<DeviceOffer*>(block_memory());
  const auto bring = [&](int peer, auto& one) {
    const std::byte* const shown = window.view(one, peer, sizeof(DeviceOffer));
    if (one.gave_up()) return;
    DeviceOffer theirs = *reinterpret_cast<const DeviceOffer*>(shown);
    if (theirs.process != own.process) {
      theirs.in = address_of(theirs.in_place, peer, own, blocks);
      theirs.out = address_of(theirs.out_place, peer, own, blocks);
    }
    offers[peer] = theirs;
  };
  const int world = links.world();
  team.apart(world, bring, [](int) {});
  if (team.gave_up()) return false;
  const bool all_reached = team.all_of(world * world, [&](int pair) {
    const int whose = pair % world;
    return reaches(offers[pair / world], offers[whose], whose, needs_output);
  });
  for (int peer = 0; peer < world; ++peer) links.reach(peer, offers[peer].in, offers[peer].out);
  window.done(team);
  return all_reached;
}

}  // namespace ringtree
