// Limits of the emulated devices that tests have no reason to change; as those of an H100.
#pragma once

namespace ringtree_emulator {

inline constexpr int kMaxGridX = 2147483647;
inline constexpr int kMaxGridYZ = 65535;
inline constexpr int kSharedBytes = 48 << 10;        ///< dynamic shared memory that any launch may ask for
inline constexpr int kSharedBytesOptin = 227 << 10;  ///< after cudaFuncSetAttribute()
inline constexpr int kLeastPriority = 0;
inline constexpr int kGreatestPriority = -5;

/// What memory holds before anybody has written to it, so that nobody takes it for zeros.
inline constexpr unsigned char kPoison = 0xA5;

}  // namespace ringtree_emulator
