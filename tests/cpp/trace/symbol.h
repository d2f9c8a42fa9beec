// Elements that remember where they come from. A contribution is "rank r's element i"; a combination knows
// the contributions in it, their order and their grouping, so equal symbols mean equal expressions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/platform.h"

namespace ringtree::trace {

/// Random-looking, and different for different words: sums of these tell sets apart.
constexpr std::uint64_t scrambled(std::uint64_t word) {
  word += 0x9E3779B97F4A7C15U;
  word = (word ^ (word >> 30U)) * 0xBF58476D1CE4E5B9U;
  word = (word ^ (word >> 27U)) * 0x94D049BB133111EBU;
  return word ^ (word >> 31U);
}

/// As large as a cache line, so that chunks may begin at any element.
struct alignas(kCacheLine) Symbol {
  std::uint64_t ranks = 0;       ///< the sum of the contributors' scrambled ranks
  std::uint64_t expression = 0;  ///< a hash of the whole expression
  std::uint64_t index = 0;       ///< of the element, in its rank's input
  std::uint32_t count = 0;       ///< contributions
  std::uint32_t closings = 0;    ///< combinations on the way that were the closing one
  bool is_mixed = false;         ///< elements of different places were combined

  bool operator==(const Symbol&) const = default;

  static Symbol contribution(int rank, std::size_t index) {
    const std::uint64_t key = scrambled(static_cast<std::uint64_t>(rank) + 1);
    return {key, scrambled(key ^ scrambled(index)), index, 1, 0, false};
  }
};

/// The reduction of symbols.
struct Combine {
  bool closes = false;

  Combine closing() const { return {true}; }

  void operator()(Symbol* destination, const void* const* sources, int n_sources, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) {
      Symbol result = static_cast<const Symbol*>(sources[0])[i];
      for (int source = 1; source < n_sources; ++source) {
        const Symbol& operand = static_cast<const Symbol*>(sources[source])[i];
        result.ranks += operand.ranks;
        result.expression = scrambled(result.expression * 3 + operand.expression);
        result.is_mixed |= operand.is_mixed || operand.index != result.index;
        result.count += operand.count;
        result.closings += operand.closings;
      }
      result.expression = scrambled(result.expression);  // the end of a group
      result.closings += closes ? 1 : 0;
      destination[i] = result;
    }
  }
};

}  // namespace ringtree::trace
