// What ranks put into their buffers, and what the tests expect of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ringtree::testing {

using Values = std::vector<std::int32_t>;

inline constexpr std::size_t kWidth = sizeof(std::int32_t);

inline std::int32_t value_of(int rank, std::size_t i) {
  return static_cast<std::int32_t>((i * 31 + static_cast<std::size_t>(rank) * 1009) % 997) - 498;
}

inline Values values_of(int rank, std::size_t count) {
  Values values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = value_of(rank, i);
  return values;
}

inline Values sum_of(int world, std::size_t count) {
  Values sum(count);
  for (int rank = 0; rank < world; ++rank)
    for (std::size_t i = 0; i < count; ++i) sum[i] += value_of(rank, i);
  return sum;
}

}  // namespace ringtree::testing
