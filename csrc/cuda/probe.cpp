#include "cuda/probe.h"

#include <type_traits>

#include "core/errors.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace ringtree {
namespace {

cudaStream_t native(GpuStream stream) { return reinterpret_cast<cudaStream_t>(stream); }

struct DestroysEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
struct DestroysStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct DestroysGraph {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
struct DestroysExecutable {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroysEvent>;
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroysGraph>;
using Executable = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroysExecutable>;

Event new_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  return Event(event);
}

class Timer final : public GpuTimer {
 public:
  void start(GpuStream stream) override {
    check_cuda(cudaEventRecord(start_.get(), native(stream)), "cudaEventRecord");
  }
  void stop(GpuStream stream) override {
    check_cuda(cudaEventRecord(stop_.get(), native(stream)), "cudaEventRecord");
  }
  double seconds() const override {
    float milliseconds = 0;
    check_cuda(cudaEventSynchronize(stop_.get()), "cudaEventSynchronize");
    check_cuda(cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get()), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) / 1e3;
  }

 private:
  Event start_ = new_event(), stop_ = new_event();
};

class OwnStream final : public GpuOwnStream {
 public:
  OwnStream() {
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
  }
  GpuStream get() const override { return reinterpret_cast<GpuStream>(stream_.get()); }

 private:
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroysStream> stream_;
};

class Recorded final : public GpuGraph {
 public:
  /// Uploaded at once: what CUDA then has to allocate it allocates before a replay, for which kernels of
  /// other ranks may wait.
  Recorded(cudaGraph_t graph, cudaStream_t stream) : graph_(graph) {
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    executable_.reset(executable);
    check_cuda(cudaGraphUpload(executable, stream), "cudaGraphUpload");
  }
  void replay(GpuStream stream) override {
    check_cuda(cudaGraphLaunch(executable_.get(), native(stream)), "cudaGraphLaunch");
  }

 private:
  Graph graph_;
  Executable executable_;
};

class Probe final : public GpuProbe {
 public:
  void use(int device) override { check_cuda(cudaSetDevice(device), "cudaSetDevice"); }
  int current() const override { return current_device(); }
  std::string bus(int device) const override { return bus_of(device); }

  void copy(void* to, const void* from, std::size_t bytes, GpuStream stream) override {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)), "a copy");
  }
  void synchronize(GpuStream stream) override {
    check_cuda(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
  }

  void launch_empty(GpuStream stream) override {
    check_cuda(cudaLaunchKernel(launchable(&empty_kernel), dim3(1), dim3(1), nullptr, 0, native(stream)),
               "the launch of an empty kernel");
  }

  double round_trips(int count, GpuStream stream) override {
    const std::string what = "two blocks that answer each other";
    const DeviceMemory<std::byte> memory = allocate_on_device(sizeof(Flags), what);
    auto* flags = reinterpret_cast<Flags*>(memory.get());
    auto turns = static_cast<std::uint64_t>(count);
    void* arguments[] = {static_cast<void*>(&flags), &turns};
    Timer timer;
    timer.start(stream);
    check_cuda(cudaLaunchCooperativeKernel(launchable(&round_trip_kernel), dim3(2), dim3(1), arguments, 0,
                                           native(stream)),
               what);
    timer.stop(stream);
    const double seconds = timer.seconds();
    std::uint64_t answered = 0;
    check_cuda(
        cudaMemcpyAsync(&answered, &flags->answer, sizeof(answered), cudaMemcpyDeviceToHost, native(stream)),
        what);
    check_cuda(cudaStreamSynchronize(native(stream)), what);
    if (answered != turns) throw TransportError(what + ": one of them did not");
    return seconds;
  }

  std::unique_ptr<GpuTimer> timer() override { return std::make_unique<Timer>(); }
  std::unique_ptr<GpuOwnStream> stream() override { return std::make_unique<OwnStream>(); }

  void begin_recording(GpuStream stream) override {
    check_cuda(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
  }
  std::unique_ptr<GpuGraph> end_recording(GpuStream stream) override {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(native(stream), &graph), "cudaStreamEndCapture");
    return std::make_unique<Recorded>(graph, native(stream));
  }
};

}  // namespace

GpuProbe& cuda_probe() {
  static Probe probe;
  return probe;
}

}  // namespace ringtree
