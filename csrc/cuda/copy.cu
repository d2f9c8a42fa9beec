// Copies by the lanes of a block together, 16 bytes each at a time.
//
//     source         | head |----|----|----|---- ...  | tail |    loaded at multiples of 16 bytes
//     destination  | head  |----|----|----|---- ...  | tail  |    stored at multiples of 16 bytes
//
// Where the two are not aligned alike, a pack is cut out of the two of the source in which it lies. The edges
// are then so wide that no pack of the source reaches beyond what is to be copied: the bytes there may be a
// peer's, or nobody's.
#include "core/platform.h"
#include "cuda/copy.h"

namespace ringtree {
namespace {

/// What a lane loads to cut a pack out of it.
struct PackPair {
  Pack low, high;
};

/// The 16 bytes from byte `ahead` of a pair on; `ahead` is below 16.
__device__ Pack cut(const PackPair& pair, unsigned ahead) {
  const bool two = (ahead & 8U) != 0, one = (ahead & 4U) != 0;
  const unsigned bits = ahead % 4 * 8;
  const auto word = [&](int i) { return i < 4 ? pair.low.words[i] : pair.high.words[i - 4]; };
  const auto by_two = [&](int i) { return two ? word(i + 2) : word(i); };
  const auto by_one = [&](int i) { return one ? by_two(i + 1) : by_two(i); };
  const auto shifted = [&](int i) {
    return static_cast<std::uint32_t>((std::uint64_t{by_one(i + 1)} << 32 | by_one(i)) >> bits);
  };
  return {{shifted(0), shifted(1), shifted(2), shifted(3)}};
}

/// Moves packs, each by way of a `Loaded`: load(wanted, loaded, from), then store(to, loaded). All loads of a
/// sweep are under way before its first store, which would hold back the loads after it; those of the last
/// sweep, too, which has fewer.
template <class Loaded, int kInFlight, class Load, class Store>
__device__ void in_sweeps(std::byte* to, const std::byte* from, std::size_t packs, Load load, Store store) {
  const unsigned stride = blockDim.x * unsigned{sizeof(Pack)};  // 32 bits: offsets take half the registers
  const auto offset = [=](unsigned i) { return i * stride; };
  const std::size_t end = packs * sizeof(Pack);
  for (std::size_t begin = threadIdx.x * sizeof(Pack); begin < end; begin += offset(kInFlight)) {
    const std::size_t left = end - begin;
    Loaded loaded[kInFlight] = {};
#pragma unroll
    for (unsigned i = 0; i < kInFlight; ++i) load(offset(i) < left, loaded[i], from + begin + offset(i));
#pragma unroll
    for (unsigned i = 0; i < kInFlight; ++i)
      if (offset(i) < left) store(to + begin + offset(i), loaded[i]);
  }
}

/// `to` is aligned; `from` is aligned, or lies `ahead` bytes behind where it would be.
template <Where kWhere>
__device__ void copy_packs(std::byte* to, const std::byte* from, unsigned ahead, std::size_t packs) {
  constexpr int kLoads = 8;  // of 16 bytes, that a lane has under way
  if (ahead == 0)
    in_sweeps<Pack, kLoads>(to, from, packs, load_pack_if<kWhere>, store_pack<kWhere>);
  else
    in_sweeps<PackPair, kLoads / 2>(
        to, from - ahead, packs,
        [](bool wanted, PackPair& pair, const std::byte* at) {
          load_pack_if<kWhere>(wanted, pair.low, at);
          load_pack_if<kWhere>(wanted, pair.high, at + sizeof(Pack));
        },
        [=](std::byte* at, const PackPair& pair) { store_pack<kWhere>(at, cut(pair, ahead)); });
}

}  // namespace

__device__ void copy_lanes(std::byte* to, const std::byte* from, std::size_t bytes) {
  const auto target = reinterpret_cast<std::uintptr_t>(to);
  const auto ahead = static_cast<unsigned>((reinterpret_cast<std::uintptr_t>(from) - target) % sizeof(Pack));
  const std::size_t behind = -ahead % sizeof(Pack);  // the rest of the last pair
  std::size_t head = -target % sizeof(Pack);
  if (head < ahead) head += sizeof(Pack);
  const std::size_t packs = bytes < head + behind ? 0 : (bytes - head - behind) / sizeof(Pack);
  if (is_global(to) && is_global(from))
    copy_packs<Where::global>(to + head, from + head, ahead, packs);
  else
    copy_packs<Where::anywhere>(to + head, from + head, ahead, packs);

  // Head and tail in one go, by the last lanes, since it is the first that may have a pack more.
  const std::size_t body = packs * sizeof(Pack);
  for (std::size_t i = blockDim.x - 1 - threadIdx.x; i < bytes - body; i += blockDim.x) {
    const std::size_t at = i < head ? i : i + body;
    to[at] = from[at];
  }
}

}  // namespace ringtree
