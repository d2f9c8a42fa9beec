#include "cuda/protocol.h"

#include <array>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "core/errors.h"

namespace ringtree {
namespace {

/// Packets carry twice the bytes, lines a third more, but their flag with them. NCCL changes over at similar
/// sizes; not measured.
constexpr std::size_t kPacketBytes = std::size_t{64} << 10U;
constexpr std::size_t kLineBytes = std::size_t{256} << 10U;

constexpr std::size_t kAllSizes = std::numeric_limits<std::size_t>::max();

}  // namespace

GpuProtocol protocol_wanted() {
  const char* const text = std::getenv("RINGTREE_GPU_PROTOCOL");
  if (text == nullptr || *text == '\0') return GpuProtocol::by_size;
  constexpr std::array<std::pair<const char*, GpuProtocol>, 3> kNames = {
      {{"simple", GpuProtocol::simple}, {"packets", GpuProtocol::packets}, {"lines", GpuProtocol::lines}}};
  for (const auto& [name, protocol] : kNames)
    if (std::string(text) == name) return protocol;
  throw InvalidArgument("RINGTREE_GPU_PROTOCOL is simple, packets or lines, not '" + std::string(text) + "'");
}

void settle_protocol(FabricShape& shape, GpuProtocol wanted, bool carries_lines) {
  shape.is_ordered = wanted != GpuProtocol::by_size;
  switch (wanted) {
    case GpuProtocol::by_size:
      shape.layout.packets.lines = carries_lines;
      shape.packet_bytes = carries_lines ? kLineBytes : kPacketBytes;
      return;
    case GpuProtocol::simple: shape.packet_bytes = 0; return;
    case GpuProtocol::packets: shape.packet_bytes = kAllSizes; return;
    case GpuProtocol::lines:
      if (!carries_lines)
        throw InvalidArgument(
            "RINGTREE_GPU_PROTOCOL=lines needs ranks on one GPU, or GPUs that are joined by NVLink and that "
            "all "
            "processes see (CUDA_VISIBLE_DEVICES): take packets");
      shape.layout.packets.lines = true;
      shape.packet_bytes = kAllSizes;
  }
}

std::string describe_protocol(const FabricShape& shape) {
  if (shape.packet_bytes == 0) return "slots";
  const std::string kind = shape.layout.packets.lines ? "lines" : "packets";
  return kind + (shape.packet_bytes == kAllSizes
                     ? " of all sizes"
                     : " up to " + std::to_string(shape.packet_bytes >> 10U) + " KiB");
}

}  // namespace ringtree
