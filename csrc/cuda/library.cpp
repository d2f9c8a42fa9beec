// What the library exports: GpuLibrary over the fabric.
#include <algorithm>
#include <memory>
#include <span>
#include <string>

#include "core/errors.h"
#include "core/gpu.h"
#include "cuda/fabric.h"
#include "cuda/kept.h"
#include "cuda/launch.h"
#include "cuda/order.h"
#include "cuda/probe.h"
#include "cuda/protocol.h"
#include "cuda/reduction.h"
#include "cuda/runtime.h"

namespace ringtree {
namespace {

cudaStream_t native(GpuStream stream) { return reinterpret_cast<cudaStream_t>(stream); }

/// In a world of one every collective is a copy, and then a barrier, which says that it is over.
void launch_alone(Fabric& fabric, const GpuTask& task, const GpuBuffers& buffers, cudaStream_t stream) {
  if (buffers.in != buffers.out && task.out_bytes != 0)
    check_cuda(cudaMemcpyAsync(buffers.out, buffers.in, task.out_bytes, cudaMemcpyDeviceToDevice, stream),
               "a copy");
  GpuTask over;
  over.algorithm = static_cast<std::uint8_t>(
      std::find_if(kernels().begin(), kernels().end(),
                   [](const NamedKernel& each) { return each.name == std::string("barrier_one_shot"); }) -
      kernels().begin());
  over.digest = task.digest;
  over.sequence = task.sequence;
  over.timeout_seconds = task.timeout_seconds;
  fabric.launch(over, {&buffers, 1}, stream);
}

/// `buffers` has an entry for each rank of this end.
void launch_plain(Fabric& fabric, const GpuTask& task, std::span<const GpuBuffers> buffers,
                  cudaStream_t stream) {
  if (fabric.world() > 1) return fabric.launch(task, buffers, stream);
  if (kernels()[task.algorithm].kernel == nullptr)
    throw InvalidArgument(std::string("there is no kernel of ") + kernels()[task.algorithm].name);
  launch_alone(fabric, task, buffers[0], stream);
}

class OneRank final : public Gpu {
 public:
  OneRank(int rank, int world, const GpuLibrary::Exchange& exchange, Transport& transport)
      : fabric_(Fabric::of_rank(rank, world, exchange, transport)) {}
  OneRank(const OneRank&) = delete;
  OneRank& operator=(const OneRank&) = delete;
  /// Waits for its own kernels alone, where that is enough: see cuda/kept.h. Those of graphs might run again.
  ~OneRank() override {
    if (was_captured_ || !fabric_->is_sound()) return;
    const OnDevice here(fabric_->device(), std::nothrow);
    order_.wait();
    fabric_->have_ended();
  }

  int device() const override { return fabric_->device(); }
  std::size_t piece_bytes() const override {
    return fabric_->shape().layout.window.slot_bytes / static_cast<std::size_t>(fabric_->world());
  }
  std::size_t bytes() const override { return fabric_->bytes(); }
  bool is_staged() const override { return fabric_->is_staged(); }
  std::string protocol() const override { return describe_protocol(fabric_->shape()); }
  int channels() const override { return fabric_->shape().layout.channels; }
  GpuFault fault() const override { return fabric_->fault(); }
  GpuProgress progress() const override { return fabric_->progress(); }
  void give_up() override { fabric_->give_up(); }
  void share_blocks(GpuBlockTable* tables, const GpuExchange& exchange) override {
    fabric_->share_blocks(tables, exchange);
  }

  bool launch(const GpuTask& task, const GpuBuffers& buffers, GpuStream stream) override {
    return in_order(native(stream), [&] {
      if (task.op == ReduceOp::premul_sum)
        launch_scaled(task, buffers, native(stream));
      else
        launch_plain(*fabric_, task, {&buffers, 1}, native(stream));
    });
  }

  bool exchange(const std::vector<GpuLetter>& outgoing, const std::vector<GpuLetter>& incoming,
                std::uint64_t sequence, double timeout_seconds, GpuStream stream) override {
    return in_order(native(stream), [&] {
      fabric_->exchange(outgoing, incoming, sequence, timeout_seconds, native(stream));
    });
  }

 private:
  /// False: `stream` is being captured.
  template <class Enqueue>
  bool in_order(cudaStream_t stream, Enqueue enqueue) {
    const OnDevice here(fabric_->device());
    const bool captures = is_capturing(stream);
    was_captured_ = was_captured_ || captures;
    if (!captures) order_.enter(stream);
    enqueue();
    if (!captures) order_.leave(stream);
    return !captures;
  }

  /// A sum of what is scaled first: in place of the result if that has the room, else in memory of the
  /// stream.
  void launch_scaled(const GpuTask& task, const GpuBuffers& buffers, cudaStream_t stream) {
    if (task.in_bytes == 0) return launch_plain(*fabric_, task, {&buffers, 1}, stream);
    void* scaled = buffers.out;
    const bool borrows = task.out_bytes < task.in_bytes || !task.has_result;
    if (borrows) check_cuda(cudaMallocAsync(&scaled, task.in_bytes, stream), "memory for a premul_sum");
    scale(task, scaled, buffers.in, stream);
    GpuTask sum = task;
    if (task.fallback >= 0) {  // another GPU might not reach memory of the stream
      sum.algorithm = static_cast<std::uint8_t>(task.fallback);
      sum.fallback = -1;
    }
    const GpuBuffers of_scaled{scaled, buffers.out};
    launch_plain(*fabric_, sum, {&of_scaled, 1}, stream);
    if (borrows) check_cuda(cudaFreeAsync(scaled, stream), "memory of a premul_sum");
  }

  static void scale(const GpuTask& task, void* to, const void* from, cudaStream_t stream) {
    DType dtype = task.dtype;
    std::size_t count = task.in_bytes / size_of(dtype);
    double factor = task.factor;
    constexpr unsigned kMostBlocks = 1024, kLanes = 256;
    int device_lanes = attribute_of(current_device(), cudaDevAttrMaxThreadsPerBlock);
    const unsigned lanes = std::min(kLanes, static_cast<unsigned>(device_lanes));
    const auto blocks = static_cast<unsigned>(std::clamp<std::size_t>(count / lanes, 1, kMostBlocks));
    void* arguments[] = {&dtype, static_cast<void*>(&to), static_cast<void*>(&from), &count, &factor};
    check_cuda(cudaLaunchKernel(launchable(&scale_kernel), dim3(blocks), dim3(lanes), arguments, 0, stream),
               "the launch of scale");
  }

  StreamOrder order_;  // outlives the fabric, whose end may wait for its calls
  std::unique_ptr<Fabric> fabric_;
  bool was_captured_ = false;
};

class AllRanks final : public VirtualRanks {
 public:
  explicit AllRanks(int world) : fabric_(Fabric::of_virtual_ranks(world)) {}
  AllRanks(const AllRanks&) = delete;
  AllRanks& operator=(const AllRanks&) = delete;
  ~AllRanks() override {
    const OnDevice here(fabric_->device(), std::nothrow);
    if (fabric_->is_sound() && cudaDeviceSynchronize() == cudaSuccess) fabric_->have_ended();
  }

  int world() const override { return fabric_->world(); }
  std::size_t piece_bytes() const override {
    return fabric_->shape().layout.window.slot_bytes / static_cast<std::size_t>(fabric_->world());
  }
  std::string protocol() const override { return describe_protocol(fabric_->shape()); }
  int channels() const override { return fabric_->shape().layout.channels; }
  void launch(const GpuTask& task, const std::vector<GpuBuffers>& buffers, GpuStream stream) override {
    launch_plain(*fabric_, task, buffers, native(stream));
  }
  GpuFault fault() const override { return fabric_->fault(); }

 private:
  std::unique_ptr<Fabric> fabric_;
};

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

class Library final : public GpuLibrary {
 public:
  int devices() const override {
    int count = 0;
    check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    return count;
  }

  std::string describe(int device) const override {
    cudaDeviceProp properties{};
    int runtime = 0, driver = 0;
    check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    return std::string(properties.name) + ", CUDA " + version(runtime) + ", driver for CUDA " +
           version(driver);
  }

  int device_of(const void* memory) const override {
    if (memory == nullptr) return current_device();
    cudaPointerAttributes attributes{};
    check_cuda(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
    return attributes.type == cudaMemoryTypeDevice ? attributes.device : -1;
  }

  std::unique_ptr<Gpu> open(int device, int rank, int world, const Exchange& exchange,
                            Transport& transport) override {
    const OnDevice here(device);
    return std::make_unique<OneRank>(rank, world, exchange, transport);
  }
  std::unique_ptr<VirtualRanks> open_virtual(int world) override { return std::make_unique<AllRanks>(world); }

  std::size_t room_for(std::size_t bytes) const override { return mappable_bytes(bytes); }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    const BesideCapture allowed;
    const int device = current_device();
    const std::size_t room = room_for(bytes);
    return {allocate_on_device(room, "an array").release(),
            [device, room](std::byte* memory) { keep_array(DeviceMemory<std::byte>(memory), device, room); }};
  }

  void copy_and_wait(void* to, const void* from, std::size_t bytes, GpuStream stream) override {
    const int device = std::max(device_of(to), device_of(from));  // one of them is the host's
    const OnDevice here(device < 0 ? current_device() : device);  // where the thread's stream is meant
    // First, since a copy of memory that is not pinned waits inside of CUDA, where other threads of the
    // process then get to launch nothing: not even the kernel that this stream's waits for.
    check_cuda(cudaStreamSynchronize(native(stream)), "a copy");
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "a copy");
    check_cuda(cudaStreamSynchronize(native(stream)), "a copy");
  }

  GpuProbe& probe() override { return cuda_probe(); }
};

}  // namespace
}  // namespace ringtree

extern "C" __attribute__((visibility("default"))) ringtree::GpuLibrary* ringtree_gpu_library() {
  static ringtree::Library library;
  return &library;
}
