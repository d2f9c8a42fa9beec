#include "cuda/introduction.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "cuda/protocol.h"
#include "cuda/residency.h"
#include "cuda/runtime.h"

namespace ringtree {
namespace {

constexpr int kLanes = 512;

/// Blocks that one call takes where each rank has a GPU to itself: the rest is for the program.
constexpr int kChannelsAlone = 24;

/// Of ranks that share a GPU one call takes a part of it, so that so many have room at once: those of another
/// communicator may be waiting for ranks whose kernels would have none left.
constexpr int kCallsAtOnce = 2;

/// Blocks that one call takes where all goes over PCIe: few of them fill it, and each of them takes memory of
/// the host. Not measured.
constexpr int kStagedChannels = 8;

/// What RINGTREE_GPU_CHANNELS says; 0: nothing.
int channels_wanted() {
  const char* const text = std::getenv("RINGTREE_GPU_CHANNELS");
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  if (*end == '\0' && number >= 1 && number <= kMaxChannels) return static_cast<int>(number);
  throw InvalidArgument("RINGTREE_GPU_CHANNELS is a number of thread blocks, 1 to " +
                        std::to_string(kMaxChannels) + ", not '" + std::string(text) + "'");
}

/// The number of their GPU in this process; negative: it does not see it. Launchers show a process its own
/// alone, and CUDA IPC reaches the others.
int number_of(const Introduction& theirs) {
  int number = theirs.device;
  if (is_near(theirs) || cudaDeviceGetByPCIBusId(&number, theirs.bus.data()) == cudaSuccess) return number;
  cudaGetLastError();
  return -1;
}

}  // namespace

std::uint64_t this_process() {
  static const std::uint64_t number = (std::uint64_t{std::random_device{}()} << 32U) ^ std::random_device{}();
  return number ^ static_cast<std::uint64_t>(getpid());
}

bool is_near(const Introduction& theirs) { return theirs.process == this_process(); }

bool may_reach(int device, const Introduction& theirs) {
  const int peer = number_of(theirs);
  if (peer < 0 || peer == device) return true;
  int can = 0;
  check_cuda(cudaDeviceCanAccessPeer(&can, device, peer), "cudaDeviceCanAccessPeer");
  return can != 0;
}

bool carries_lines(int device, const Introduction& theirs) {
  const int peer = number_of(theirs);
  if (peer < 0 || peer == device) return peer == device;
  int joined = 0;
  check_cuda(cudaDeviceGetP2PAttribute(&joined, cudaDevP2PAttrNativeAtomicSupported, device, peer),
             "cudaDeviceGetP2PAttribute");
  return joined != 0;
}

Introduction introduce(int world) {
  const int device = current_device();
  if (attribute_of(device, cudaDevAttrCooperativeLaunch) == 0)
    throw TransportError("GPU " + std::to_string(device) +
                         " has no cooperative launch, which ringtree's kernels need");
  Introduction own{};
  own.protocol = protocol_wanted();
  own.channels = channels_wanted();
  const std::string bus = bus_of(device);
  std::copy_n(bus.begin(), std::min(bus.size(), own.bus.size() - 1), own.bus.begin());
  own.process = this_process();
  own.device = device;
  own.lanes = std::min(kLanes, attribute_of(device, cudaDevAttrMaxThreadsPerBlock));
  own.blocks = blocks_at_once(device, world, own.lanes);
  return own;
}

FabricShape shape_for(const std::vector<Introduction>& all, Launch launch) {
  const int world = static_cast<int>(all.size());
  const int wanted = all[0].channels;
  const int calls = launch == Launch::together || wanted != 0 ? 1 : kCallsAtOnce;
  int channels = wanted != 0 ? wanted : kMaxChannels, lanes = kLanes;
  for (const Introduction& one : all) {
    const auto sharers = static_cast<int>(std::count_if(
        all.begin(), all.end(), [&](const Introduction& other) { return other.bus == one.bus; }));
    if (sharers > one.blocks)
      throw TransportError("the GPU at " + std::string(one.bus.data()) + " holds " +
                           std::to_string(one.blocks) + " blocks at once, and " + std::to_string(sharers) +
                           " ranks share it, which wait for one another: give it fewer ranks");
    const int most = sharers == 1 && wanted == 0 ? kChannelsAlone : kMaxChannels;
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): who shares a GPU with nobody is one
    const int room = one.blocks / sharers / calls;
    channels = std::min(channels, std::clamp(room, 1, most));
    lanes = std::min(lanes, one.lanes);
  }
  return {DeviceLayout::of(world, channels), lanes, 0};
}

/// Without packets, of which every lane would poll its own over PCIe: not tried yet.
FabricShape staged_shape_for(const std::vector<Introduction>& all) {
  FabricShape shape = shape_for(all, Launch::each);
  if (all[0].protocol == GpuProtocol::packets || all[0].protocol == GpuProtocol::lines)
    throw InvalidArgument(
        "RINGTREE_GPU_PROTOCOL: without peer access there are no packets: take simple, or leave it out");
  if (all[0].channels == 0) shape.layout.channels = std::min(shape.layout.channels, kStagedChannels);
  shape.layout.packets = {};
  return shape;
}

}  // namespace ringtree
