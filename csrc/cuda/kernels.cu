// The kernels: every algorithm of the catalogue, run by one thread block for each channel of each rank.
//
// The templates are those of the host; only the team (a Block), the links and the reduction differ. A kernel
// is launched cooperatively with a grid of (channels, ranks): a launch of several ranks, which share the GPU,
// is refused if they could not all be resident.
#include <type_traits>

#include "algorithms.h"  // generated: all of the catalogue
#include "core/call.h"
#include "core/span.h"
#include "cuda/block.h"
#include "cuda/call.h"
#include "cuda/links.h"
#include "cuda/meeting.h"
#include "cuda/progress.h"
#include "schedule/chunks.h"

namespace ringtree {
namespace {

/// Kernels count in bytes, also where they compute: chunks and pieces end at lines of the cache, or where the
/// buffer does, so that no element is torn. The reduction alone knows the type.
using Byte = Element<1>;

/// The part of a call that falls to one block.
template <class Links>
struct Share {
  const DeviceCall* call;
  Links* links;
  const DeviceOffer* buffers;

  static __device__ int channel() { return static_cast<int>(blockIdx.x); }
  static __device__ int channels() { return static_cast<int>(gridDim.x); }

  __device__ Chunks slice(const Chunks& chunks) const {
    return chunks.slice(channel(), channels(), kGrainBytes);
  }

  __device__ Chunks chunks(bool is_uneven, const std::size_t* offsets) const {
    const int world = call->layout.world;
    return slice(is_uneven ? Chunks::at(offsets, world) : Chunks::equal(call->share, world));
  }
  __device__ Chunks in_chunks() const { return chunks(call->in_is_uneven, call->in_offsets); }
  __device__ Chunks out_chunks() const { return chunks(call->out_is_uneven, call->out_offsets); }

  __device__ Span<const Byte> in() const { return {static_cast<const Byte*>(buffers->in), call->in_bytes}; }
  __device__ Span<Byte> out() const { return {static_cast<Byte*>(buffers->out), call->out_bytes}; }

  /// Whether algorithms use the arrays of peers, of which this block then sees its part alone, too.
  static constexpr bool kReaches = std::is_same_v<Links, ArrayLinks>;

  __device__ Range part_of_whole(std::size_t bytes) const {
    const Range part = slice(Chunks::split(bytes, 1)).chunk(0);
    if constexpr (kReaches)
      for (int peer = 0; peer < links->world(); ++peer)
        links->reach(peer, links->template input_of<Byte>(peer) + part.begin,
                     links->template output_of<Byte>(peer) + part.begin);
    return part;
  }

  /// Of a buffer that holds a rank's own chunk alone.
  static __device__ Range part_of_chunk(const Chunks& chunks, int rank) {
    const Range part = chunks.chunk(rank);
    return {part.begin - chunks.whole_chunk(rank).begin, part.size};
  }

  __device__ Span<const Byte> own_input(const Chunks& chunks) const {
    if constexpr (kReaches)
      for (int peer = 0; peer < links->world(); ++peer)
        links->reach(peer, links->template input_of<Byte>(peer) + part_of_chunk(chunks, peer).begin,
                     links->template output_of<Byte>(peer));
    const Range part = part_of_chunk(chunks, links->rank());
    return in().part(part.begin, part.size);
  }

  __device__ Span<Byte> own_output(const Chunks& chunks) const {
    const Range part = part_of_chunk(chunks, links->rank());
    return out().part(part.begin, part.size);
  }
};

// One adapter a collective, as in communicator/host_entry.h.

template <Collective, class Algorithm>
struct DeviceAdapter;

template <class Algorithm>
struct DeviceAdapter<Collective::all_reduce, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const auto [begin, size] = share.part_of_whole(share.call->in_bytes);
    Algorithm::run(team, *share.links, share.in().part(begin, size), share.out().part(begin, size),
                   share.call->reduction);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::reduce, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const auto [begin, size] = share.part_of_whole(share.call->in_bytes);
    Algorithm::run(team, *share.links, share.in().part(begin, size), share.out().part(begin, size),
                   share.call->root, share.call->reduction);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::reduce_scatter, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const Chunks chunks = share.in_chunks();
    Algorithm::run(team, *share.links, share.in(), share.own_output(chunks), chunks, share.call->reduction);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::broadcast, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const auto [begin, size] = share.part_of_whole(share.call->out_bytes);
    Algorithm::run(team, *share.links, share.out().part(begin, size), share.call->root);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::all_gather, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const Chunks chunks = share.out_chunks();
    Algorithm::run(team, *share.links, share.own_input(chunks), share.out(), chunks);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::all_to_all, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    Algorithm::run(team, *share.links, share.in(), share.in_chunks(), share.out(), share.out_chunks());
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::gather, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const Chunks chunks = share.out_chunks();
    Algorithm::run(team, *share.links, share.own_input(chunks), share.out(), chunks, share.call->root);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::scatter, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    const Chunks chunks = share.in_chunks();
    Algorithm::run(team, *share.links, share.in(), share.own_output(chunks), chunks, share.call->root);
  }
};

template <class Algorithm>
struct DeviceAdapter<Collective::barrier, Algorithm> {
  template <class Links>
  static __device__ void run(Block& team, const Share<Links>& share) {
    Algorithm::run(team, *share.links);
  }
};

template <class Algorithm>
inline constexpr Access kAccessOf = access_of<Algorithm>();

template <Collective kCollective, class Algorithm, class Links>
__global__ void __launch_bounds__(512, 1) collective_kernel(const __grid_constant__ DeviceCall call) {
  constexpr Access kAccess = kAccessOf<Algorithm>;
  DeviceRank& rank = *call.ranks[blockIdx.y];
  if (call.unless_reached && rank.reached == call.sequence) return;

  Block team(rank, call.sequence, call.timeout_ns);
  if (blockIdx.x == 0) tell_begin(rank, call.sequence);
  const auto channel = static_cast<int>(blockIdx.x);
  Links links(rank.memories, call.layout, rank.channels[channel], call.digest,
              call.first_rank + static_cast<int>(blockIdx.y), channel);
  const Share<Links> share{&call, &links, &call.buffers[blockIdx.y]};
  if constexpr (kAccess != Access::none) {
    const bool needs_output = kAccess == Access::use && kCollective != Collective::reduce_scatter;
    if (!meet(team, links, *share.buffers, rank.host->blocks, needs_output))
      return tell_end(team, rank, call.sequence, false, gridDim.x);  // another kernel follows
    if (channel == 0 && team.leads()) rank.reached = call.sequence;
  }
  DeviceAdapter<kCollective, Algorithm>::run(team, share);
  tell_end(team, rank, call.sequence, true, gridDim.x);
}

template <Collective kCollective, class Algorithm>
constexpr NamedKernel kernels_of(const char* name) {
  NamedKernel kernels{nullptr, nullptr, name};
  if constexpr (kAccessOf<Algorithm> != Access::none) {
    kernels.kernel = &collective_kernel<kCollective, Algorithm, ArrayLinks>;
  } else if constexpr (!kIsHostOnly<Algorithm>) {
    kernels.kernel = &collective_kernel<kCollective, Algorithm, DeviceLinks>;
    kernels.over_packets = &collective_kernel<kCollective, Algorithm, PacketLinks<kSeesEveryone<Algorithm>>>;
  }
  return kernels;
}

}  // namespace

std::span<const NamedKernel> kernels() {
#define RINGTREE_ENTRY(collective, name) \
  kernels_of<Collective::collective, collective##_##name>(#collective "_" #name),
  static const NamedKernel all[] = {
#include "entries.inc"  // generated: one line an algorithm
  };
#undef RINGTREE_ENTRY
  return all;
}

}  // namespace ringtree
