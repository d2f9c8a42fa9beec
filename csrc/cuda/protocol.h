// How messages travel between GPUs, and up to which size: in slots, which are filled and then published
// (link/slots.h), or in packets (cuda/packets.h).
#pragma once

#include <cstdint>
#include <string>

#include "cuda/fabric.h"

namespace ringtree {

enum class GpuProtocol : std::uint8_t {
  by_size,
  simple,   ///< slots
  packets,  ///< 8 bytes of data and 8 of flags
  lines,    ///< 12 bytes of data and 4 of flag
};

/// What RINGTREE_GPU_PROTOCOL says. Throws InvalidArgument.
GpuProtocol protocol_wanted();

/// Packets for calls of some sizes, or of all if they are wanted: in lines where all links of the ranks carry
/// them. Throws InvalidArgument, on all ranks, if lines are wanted and some link does not.
void settle_protocol(FabricShape& shape, GpuProtocol wanted, bool carries_lines);

/// `lines up to 256 KiB`.
std::string describe_protocol(const FabricShape& shape);

}  // namespace ringtree
