// What a rank says about the call it makes, so that its peers can tell whether they make the same one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/platform.h"

namespace ringtree {

#define RINGTREE_COLLECTIVES(X) \
  X(all_reduce)                 \
  X(reduce) X(broadcast) X(all_gather) X(reduce_scatter) X(all_to_all) X(gather) X(scatter) X(barrier)

enum class Collective : std::uint8_t {
#define RINGTREE_ENUMERATOR(name) name,
  RINGTREE_COLLECTIVES(RINGTREE_ENUMERATOR)
#undef RINGTREE_ENUMERATOR
};

#define RINGTREE_NAME(name) #name,
inline constexpr auto kCollectiveNames = std::to_array<const char*>({RINGTREE_COLLECTIVES(RINGTREE_NAME)});
#undef RINGTREE_NAME

inline constexpr std::size_t kCollectives = kCollectiveNames.size();

constexpr bool reduces(Collective collective) {
  return collective == Collective::all_reduce || collective == Collective::reduce ||
         collective == Collective::reduce_scatter;
}

constexpr bool has_root(Collective collective) {
  return collective == Collective::reduce || collective == Collective::broadcast ||
         collective == Collective::gather || collective == Collective::scatter;
}

/// One call, as every rank must make it. Plain words, because peers read it from shared memory.
struct CallHeader {
  std::uint64_t sequence;  ///< the communicator's collectives, counted from 1
  std::uint64_t count;     ///< elements
  std::uint64_t layout;    ///< for uneven shares: a hash of every rank's count; else 0
  std::uint8_t collective;
  std::uint8_t dtype;
  std::uint8_t op;
  std::uint8_t algorithm;  ///< index in the catalogue, perhaps with the two bits below
  std::int32_t root;

  /// The ranks first ask whether zero_copy is possible.
  static constexpr std::uint8_t kOrZeroCopy = 0x80;
  /// The call is one of arrays on a GPU, and its kernels meet none of a rank whose arrays are on the host.
  static constexpr std::uint8_t kOnGpu = 0x40;

  constexpr std::uint8_t algorithm_index() const { return algorithm & (kOnGpu - 1U); }
  constexpr bool is_on_gpu() const { return (algorithm & kOnGpu) != 0; }
  constexpr bool asks_for_zero_copy() const { return (algorithm & kOrZeroCopy) != 0; }
};

/// One word for a whole header: two different calls share it about once in 2^64 pairs.
RT_HD constexpr std::uint64_t digest_of(const CallHeader& call) {
  std::uint64_t digest = 0;
  const auto mix = [&digest](std::uint64_t word) {
    digest = (digest ^ word) * 0x9E3779B97F4A7C15u;  // Fibonacci hashing's odd constant
    digest ^= digest >> 32;
  };
  mix(call.sequence);
  mix(call.count);
  mix(call.layout);
  mix(static_cast<std::uint64_t>(call.collective) | static_cast<std::uint64_t>(call.dtype) << 8 |
      static_cast<std::uint64_t>(call.op) << 16 | static_cast<std::uint64_t>(call.algorithm) << 24 |
      static_cast<std::uint64_t>(static_cast<std::uint32_t>(call.root)) << 32);
  return digest;
}

}  // namespace ringtree
