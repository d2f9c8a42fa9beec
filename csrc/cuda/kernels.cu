// The kernels: every algorithm of the catalogue, run by a thread block of each rank.
//
// The templates are those of the host; only the team (a `Block`) and the operation differ. All ranks of a
// launch share one GPU: blockIdx.y is the rank, and the links lie in plain device memory.
#include "algorithms.h"  // generated: all of the catalogue
#include "core/call.h"
#include "core/team.h"
#include "cuda/device_op.h"
#include "link/links.h"

namespace ringtree {

/// What a kernel needs of one rank. Arrays of these lie in device memory, one entry a rank.
struct DeviceRank {
  LinkState state;
  const void* in;
  void* out;
};

struct DeviceCall {
  std::byte* links;
  LinkLayout layout;
  DeviceRank* ranks;
  DeviceFault* fault;
  std::uint64_t digest;
  std::size_t in_count, out_count;
  const std::size_t* in_offsets;  ///< of the chunks, world + 1 of them; null: all have share elements
  const std::size_t* out_offsets;
  std::size_t share;
  int root;
};

namespace {

__device__ Chunks chunks_at(const std::size_t* offsets, const DeviceCall& call) {
  return offsets == nullptr ? Chunks::equal(call.share, call.layout.world)
                            : Chunks::at(offsets, call.layout.world);
}

template <Collective, class Algorithm, class T, class Functor>
struct DeviceAdapter;

/// One adapter a collective, as in communicator/host_entry.h.
#define RINGTREE_DEVICE_ADAPTER(collective, ...)                                              \
  template <class Algorithm, class T, class Functor>                                          \
  struct DeviceAdapter<Collective::collective, Algorithm, T, Functor> {                       \
    static __device__ void run(Block& team, Links& links, const DeviceCall& call,             \
                               [[maybe_unused]] DeviceOp<T, Functor> op) {                    \
      [[maybe_unused]] const DeviceRank& rank = call.ranks[links.rank()];                     \
      [[maybe_unused]] const Span<const T> in(static_cast<const T*>(rank.in), call.in_count); \
      [[maybe_unused]] const Span<T> out(static_cast<T*>(rank.out), call.out_count);          \
      [[maybe_unused]] const Chunks in_chunks = chunks_at(call.in_offsets, call);             \
      [[maybe_unused]] const Chunks out_chunks = chunks_at(call.out_offsets, call);           \
      Algorithm::run(team, links __VA_OPT__(, ) __VA_ARGS__);                                 \
    }                                                                                         \
  };

RINGTREE_DEVICE_ADAPTER(all_reduce, in, out, op)
RINGTREE_DEVICE_ADAPTER(reduce, in, out, call.root, op)
RINGTREE_DEVICE_ADAPTER(reduce_scatter, in, out, in_chunks, op)
RINGTREE_DEVICE_ADAPTER(broadcast, out, call.root)
RINGTREE_DEVICE_ADAPTER(all_gather, in, out, out_chunks)
RINGTREE_DEVICE_ADAPTER(all_to_all, in, in_chunks, out, out_chunks)
RINGTREE_DEVICE_ADAPTER(gather, in, out, out_chunks, call.root)
RINGTREE_DEVICE_ADAPTER(scatter, in, out, in_chunks, call.root)
RINGTREE_DEVICE_ADAPTER(barrier)

}  // namespace

/// Launched cooperatively with grid (1, world): the launch itself refuses ranks that cannot all be resident.
template <Collective kCollective, class Algorithm, class T, class Functor>
__global__ void __launch_bounds__(512, 1) collective_kernel(DeviceCall call, DeviceOp<T, Functor> op) {
  const int rank = static_cast<int>(blockIdx.y);
  Block team(*call.fault);
  Links links(call.links, call.layout, call.ranks[rank].state, call.digest, rank);
  DeviceAdapter<kCollective, Algorithm, T, Functor>::run(team, links, call, op);
}

#define RINGTREE_ENTRY(collective, name)                                                                  \
  template __global__ void collective_kernel<Collective::collective, collective##_##name, float, Sum>(    \
      DeviceCall, DeviceOp<float, Sum>);                                                                  \
  template __global__ void collective_kernel<Collective::collective, collective##_##name, BFloat16, Sum>( \
      DeviceCall, DeviceOp<BFloat16, Sum>);
#include "entries.inc"  // generated: one line an algorithm
#undef RINGTREE_ENTRY

}  // namespace ringtree
