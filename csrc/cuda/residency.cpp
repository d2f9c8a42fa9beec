#include "cuda/residency.h"

#include <string>

#include "core/errors.h"
#include "cuda/launch.h"
#include "cuda/messages.h"
#include "cuda/reduction.h"
#include "cuda/runtime.h"

namespace ringtree {

CalledKernel called(const NamedKernel& entry, bool over_packets, const DeviceLayout& layout) {
  if (over_packets) return {entry.over_packets, layout.packets.staging_bytes(layout.world)};
  const bool meets = entry.over_packets == nullptr;
  return {entry.kernel, meets ? meeting_bytes(layout.world) : 0};
}

int blocks_at_once(int device, int world, int lanes) {
  const auto load = [&](auto* kernel, std::size_t shared_bytes, const std::string& name) {
    if (kernel == nullptr) return;
    const std::string what = "loading the kernel of " + name;
    cudaFuncAttributes attributes{};
    check_cuda(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)), what);
    int blocks = 0;
    check_cuda(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, launchable(kernel), lanes, shared_bytes),
        what);
    if (blocks < 1)
      throw TransportError("GPU " + std::to_string(device) + " cannot hold a block of the kernel of " + name +
                           ": " + std::to_string(lanes) + " threads of " +
                           std::to_string(attributes.numRegs) + " registers, " +
                           std::to_string(shared_bytes) + " bytes of shared memory");
  };
  const DeviceLayout layout = DeviceLayout::of(world, 1);
  for (const NamedKernel& each : kernels())
    for (const bool over_packets : {false, true}) {
      const CalledKernel one = called(each, over_packets, layout);
      load(one.kernel, one.shared_bytes, each.name);
    }
  load(&messages_kernel, layout.packets.areas_bytes(), "send and recv");
  load(&scale_kernel, 0, "premul_sum");
  return attribute_of(device, cudaDevAttrMultiProcessorCount);
}

}  // namespace ringtree
