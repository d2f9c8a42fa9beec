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

/// Shows the peers this rank's buffers and looks at theirs; whether every rank reaches all of them. The same
/// on all ranks and channels. `blocks` has an entry a rank.
template <class Team>
__device__ bool meet(Team& team, ArrayLinks& links, const DeviceOffer& own, const MappedBlocks* blocks,
                     bool needs_output) {
  auto window = links.window();
  const Claim slot = window.claim(team, sizeof(DeviceOffer));
  if (team.leads()) *reinterpret_cast<DeviceOffer*>(slot.data) = own;
  window.publish(team, slot, sizeof(DeviceOffer));
  const DeviceOffer* offers[kMaxDeviceRanks];
  for (int peer = 0; peer < links.world(); ++peer)
    offers[peer] = reinterpret_cast<const DeviceOffer*>(window.view(team, peer, sizeof(DeviceOffer)));
  if (team.gave_up()) return false;
  bool all_reached = true;
  for (int peer = 0; peer < links.world(); ++peer) {
    const DeviceOffer& theirs = *offers[peer];
    for (int other = 0; other < links.world(); ++other)
      if (other != peer) all_reached = all_reached && reaches(*offers[other], theirs, peer, needs_output);
    const auto address = [&](const void* pointer, const BufferPlace& place) {
      if (theirs.process == own.process) return reinterpret_cast<std::uintptr_t>(pointer);
      if (!all_reached || place.block == 0) return std::uintptr_t{0};
      return reinterpret_cast<std::uintptr_t>(blocks[peer].bases[place.kind][place.block - 1] + place.offset);
    };
    links.reach(peer, reinterpret_cast<const void*>(address(theirs.in, theirs.in_place)),
                reinterpret_cast<void*>(address(theirs.out, theirs.out_place)));
  }
  window.done(team);
  return all_reached;
}

}  // namespace ringtree
