// Nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
#pragma once

#include <cstdint>
#include <ctime>

namespace ringtree {

inline std::uint64_t nanoseconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

/// Up to a few milliseconds late, for a few nanoseconds.
inline std::uint64_t coarse_ns() { return nanoseconds_of(CLOCK_MONOTONIC_COARSE); }

inline std::uint64_t precise_ns() { return nanoseconds_of(CLOCK_MONOTONIC); }

}  // namespace ringtree
