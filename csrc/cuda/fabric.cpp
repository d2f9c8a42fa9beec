#include "cuda/fabric.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "communicator/host_entry.h"
#include "core/errors.h"

namespace ringtree {
namespace {

constexpr int kLanes = 512;

/// Blocks that one call takes where each rank has a GPU to itself: the rest is for the program.
constexpr int kChannelsAlone = 24;

/// A block is worth its part in starting and ending a call from so many bytes on. Not measured yet.
constexpr std::size_t kBytesPerChannel = std::size_t{32} << 10U;

/// Tells ranks of one process from those of others, also where containers give out the same process number.
std::uint64_t this_process() {
  static const std::uint64_t number = (std::uint64_t{std::random_device{}()} << 32U) ^ std::random_device{}();
  return number ^ static_cast<std::uint64_t>(getpid());
}

/// What ranks tell each other before they decide on a shape, and after they have memory.
struct Introduction {
  std::array<char, 32> bus;
  int multiprocessors;
  int lanes;
};
struct Invitation {
  std::uint64_t process;
  std::byte* memory;
  int device;
  cudaIpcMemHandle_t handle;
};

template <class T>
std::vector<T> exchange_words(const Fabric::Exchange& exchange, const T& own) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &own, sizeof(T));
  std::vector<T> all;
  for (const std::string& theirs : exchange(bytes)) {
    if (theirs.size() != sizeof(T))
      throw TransportError("the ranks run different versions of ringtree's CUDA fabric");
    std::memcpy(&all.emplace_back(), theirs.data(), sizeof(T));
  }
  return all;
}

FabricShape shape_of(int multiprocessors, int lanes, int world, int ranks_on_device) {
  if (world > kMaxDeviceRanks)
    throw InvalidArgument("the CUDA fabric connects up to " + std::to_string(kMaxDeviceRanks) +
                          " ranks, not " + std::to_string(world));
  const int most = ranks_on_device == 1 ? kChannelsAlone : kMaxChannels;
  const int channels = std::clamp(multiprocessors / ranks_on_device, 1, most);
  return {DeviceLayout::of(world, channels), lanes};
}

int lanes_of(int device) { return std::min(kLanes, attribute_of(device, cudaDevAttrMaxThreadsPerBlock)); }

void refuse_without_cooperation(int device) {
  if (attribute_of(device, cudaDevAttrCooperativeLaunch) == 0)
    throw TransportError("GPU " + std::to_string(device) +
                         " has no cooperative launch, which ringtree's kernels need");
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

}  // namespace

FabricShape shape_for(int device, int world, int ranks_on_device) {
  return shape_of(attribute_of(device, cudaDevAttrMultiProcessorCount), lanes_of(device), world,
                  ranks_on_device);
}

/// What one rank has here.
struct Fabric::Rank {
  DeviceMemory<std::byte> links, state;
  HostMemory<std::byte> host;

  explicit Rank(const DeviceLayout& layout)
      : links(allocate_on_device(layout.bytes(), "ringtree's links")),
        state(allocate_on_device(sizeof(DeviceRank), "ringtree's links")),
        host(allocate_on_host(sizeof(HostShare), "ringtree's links")) {}

  DeviceRank* on_device() const { return reinterpret_cast<DeviceRank*>(state.get()); }

  /// Tells the kernels where everything is.
  void connect(const std::vector<std::byte*>& memories) const {
    DeviceRank image{};
    std::copy(memories.begin(), memories.end(), std::begin(image.memories));
    image.host = reinterpret_cast<HostShare*>(host.get());
    check_cuda(cudaMemcpy(state.get(), &image, sizeof(image), cudaMemcpyHostToDevice), "ringtree's links");
  }
};

Fabric::Fabric(int device, int first_rank, const FabricShape& shape)
    : device_(device), first_rank_(first_rank), shape_(shape) {}

Fabric::~Fabric() {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device_);
  give_up();
  cudaDeviceSynchronize();  // whatever still runs ends now, and touches no memory of a peer after this
  peers_.clear();
  ranks_.clear();
  cudaSetDevice(before);
}

std::unique_ptr<Fabric> Fabric::of_virtual_ranks(int world) {
  return of_virtual_ranks(shape_for(current_device(), world, world));
}

std::unique_ptr<Fabric> Fabric::of_virtual_ranks(const FabricShape& shape) {
  const int device = current_device();
  refuse_without_cooperation(device);
  std::unique_ptr<Fabric> fabric(new Fabric(device, 0, shape));
  std::vector<std::byte*> memories;
  for (int rank = 0; rank < shape.layout.world; ++rank) {
    fabric->open_rank();
    memories.push_back(fabric->ranks_.back()->links.get());
  }
  for (const auto& rank : fabric->ranks_) rank->connect(memories);
  return fabric;
}

std::unique_ptr<Fabric> Fabric::of_rank(int rank, int world, const Exchange& exchange) {
  const int device = current_device();
  refuse_without_cooperation(device);
  Introduction own{};
  const std::string bus = bus_of(device);
  std::copy_n(bus.begin(), std::min(bus.size(), own.bus.size() - 1), own.bus.begin());
  own.multiprocessors = attribute_of(device, cudaDevAttrMultiProcessorCount);
  own.lanes = lanes_of(device);
  const std::vector<Introduction> all = exchange_words(exchange, own);

  // The narrowest GPU decides for all: ranks have to cut a call into the same channels.
  std::unique_ptr<Fabric> fabric(new Fabric(device, rank, shape_of(own.multiprocessors, own.lanes, world, 1)));
  fabric->shape_.layout.channels = kMaxChannels;
  for (const Introduction& one : all) {
    const auto neighbours = std::count_if(all.begin(), all.end(),
                                          [&](const Introduction& other) { return other.bus == one.bus; });
    const FabricShape shape =
        shape_of(one.multiprocessors, one.lanes, world, static_cast<int>(neighbours));
    fabric->shape_.layout.channels = std::min(fabric->shape_.layout.channels, shape.layout.channels);
    fabric->shape_.lanes = std::min(fabric->shape_.lanes, shape.lanes);
  }
  fabric->open_rank();
  fabric->connect(exchange);
  return fabric;
}

void Fabric::open_rank() { ranks_.push_back(std::make_unique<Rank>(shape_.layout)); }

void Fabric::connect(const Exchange& exchange) {
  Invitation own{this_process(), ranks_[0]->links.get(), device_, {}};
  check_cuda(cudaIpcGetMemHandle(&own.handle, own.memory), "cudaIpcGetMemHandle");
  std::vector<std::byte*> memories;
  for (const Invitation& theirs : exchange_words(exchange, own)) {
    if (theirs.process == own.process) {
      if (theirs.device != device_) {
        const cudaError_t result = cudaDeviceEnablePeerAccess(theirs.device, 0);
        if (result != cudaErrorPeerAccessAlreadyEnabled)
          check_cuda(result, "GPU " + std::to_string(device_) + " cannot reach the memory of GPU " +
                                 std::to_string(theirs.device));
        cudaGetLastError();
      }
      memories.push_back(theirs.memory);
      continue;
    }
    void* mapped = nullptr;
    check_cuda(cudaIpcOpenMemHandle(&mapped, theirs.handle, cudaIpcMemLazyEnablePeerAccess),
               "the memory of rank " + std::to_string(memories.size()) + " cannot be mapped");
    peers_.emplace_back(static_cast<std::byte*>(mapped));
    memories.push_back(peers_.back().get());
  }
  ranks_[0]->connect(memories);
}

std::size_t Fabric::bytes() const { return ranks_.size() * (shape_.layout.bytes() + sizeof(DeviceRank)); }

HostShare& Fabric::host_share(std::size_t local) const {
  return *reinterpret_cast<HostShare*>(ranks_[local]->host.get());
}

void Fabric::give_up() {
  for (std::size_t local = 0; local < ranks_.size(); ++local) {
    std::uint64_t& raised = host_share(local).fault.raised;
    if (AtomicRef(raised).load(relaxed) == DeviceFault::none) AtomicRef(raised).store(DeviceFault::told, release);
  }
}

/// The same on all ranks: it depends on what they have agreed on.
dim3 Fabric::grid_for(const DeviceTask& task) const {
  const std::size_t bytes = std::max({task.in_bytes, task.out_bytes, std::size_t{1}});
  const std::size_t channels = (bytes + kBytesPerChannel - 1) / kBytesPerChannel;
  const auto most = static_cast<std::size_t>(shape_.layout.channels);
  return {static_cast<unsigned>(std::min(channels, most)), static_cast<unsigned>(ranks_.size()), 1};
}

void Fabric::launch(const DeviceTask& task, std::span<const DeviceBuffers> buffers, cudaStream_t stream) {
  const OnDevice here(device_);
  DeviceCall call{};
  call.layout = shape_.layout;
  call.digest = task.digest;
  call.sequence = task.sequence;
  call.timeout_ns = static_cast<std::uint64_t>(task.timeout_seconds * 1e9);
  call.in_bytes = task.in_bytes;
  call.out_bytes = task.out_bytes;
  call.share = task.share;
  call.in_is_uneven = !task.in_offsets.empty();
  call.out_is_uneven = !task.out_offsets.empty();
  std::copy(task.in_offsets.begin(), task.in_offsets.end(), std::begin(call.in_offsets));
  std::copy(task.out_offsets.begin(), task.out_offsets.end(), std::begin(call.out_offsets));
  call.first_rank = first_rank_;
  call.root = task.root;
  call.reduction = DeviceReduction(task.dtype, task.op, world());
  for (std::size_t local = 0; local < ranks_.size(); ++local) {
    call.ranks[local] = ranks_[local]->on_device();
    call.buffers[local].in = buffers[local].in;
    call.buffers[local].out = buffers[local].out;
    call.buffers[local].process = this_process();
  }
  const dim3 grid = grid_for(task);
  launch_kernel(task.algorithm, call, grid, stream);
  if (task.fallback < 0) return;
  call.unless_reached = true;
  launch_kernel(static_cast<std::uint8_t>(task.fallback), call, grid, stream);
}

void Fabric::launch_kernel(std::uint8_t algorithm, DeviceCall& call, dim3 grid, cudaStream_t stream) const {
  const Kernel kernel = kernels()[algorithm];
  const HostEntry& entry = catalogue()[algorithm];
  const std::string name = std::string(kCollectiveNames[static_cast<std::size_t>(entry.collective)]) + "_" +
                           entry.name;
  if (kernel == nullptr) throw InvalidArgument("the algorithm " + name + " is not for GPUs");
  void* arguments[] = {&call};
  check_cuda(cudaLaunchCooperativeKernel(kernel, grid, dim3(static_cast<unsigned>(shape_.lanes)),
                                         arguments, 0, stream),
             "the launch of " + name);
}

}  // namespace ringtree
