// Limits of the emulated devices that tests have no reason to change; as those of an H100.
#pragma once

#include <cstddef>

namespace ringtree_emulator {

inline constexpr int kMaxGridX = 2147483647;
inline constexpr int kMaxGridYZ = 65535;
inline constexpr int kSharedBytes = 48 << 10;        ///< dynamic shared memory that any launch may ask for
inline constexpr int kSharedBytesOptin = 227 << 10;  ///< after cudaFuncSetAttribute()
inline constexpr int kLeastPriority = 0;
inline constexpr int kGreatestPriority = -5;

/// Launches, copies and the like that a stream holds and has not begun.
inline constexpr std::size_t kQueuedAtMost = 1024;

/// A copy of so many bytes from memory of the host that is not pinned waits for nothing.
inline constexpr std::size_t kStagedAtMost = std::size_t{64} << 10;

/// Of physical memory and the addresses that it is mapped to.
inline constexpr std::size_t kGranularity = std::size_t{2} << 20;

/// What memory holds before anybody has written to it, so that nobody takes it for zeros.
inline constexpr unsigned char kPoison = 0xA5;

}  // namespace ringtree_emulator
