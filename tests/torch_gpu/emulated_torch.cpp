// CUDA tensors, streams and events for a PyTorch that was built for the CPU alone, on the emulated devices
// (tests/emulator): so that the backend's part for GPUs runs where there is none.
//
// Memory, views, copies, streams and events are real. All else is computed on the CPU and copied back, by
// PyTorch's own fallback.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cuda_runtime_api.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <vector>

namespace {

constexpr c10::DeviceType kCuda = c10::DeviceType::CUDA;

void check(cudaError_t result) { TORCH_CHECK(result == cudaSuccess, cudaGetErrorString(result)); }

/// Of the calling thread; 0 is the default one.
thread_local c10::StreamId current_stream = 0;

cudaStream_t native(const c10::Stream& stream) { return reinterpret_cast<cudaStream_t>(stream.id()); }
cudaStream_t current() { return reinterpret_cast<cudaStream_t>(current_stream); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kCuda; }
  c10::Device getDevice() const override {
    int device = 0;
    check(cudaGetDevice(&device));
    return {kCuda, static_cast<c10::DeviceIndex>(device)};
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  void setDevice(c10::Device device) const override {
    if (device.has_index()) check(cudaSetDevice(device.index()));
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) cudaSetDevice(device.index());
  }
  /// The first. Asked of a process that is still to be forked, so it may not begin the emulation.
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  static c10::Stream stream_of(c10::Device device, c10::StreamId id) {
    const c10::DeviceIndex index = device.has_index() ? device.index() : c10::DeviceIndex{0};
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kCuda, index), id);
  }
  c10::Stream getStream(c10::Device device) const override { return stream_of(device, current_stream); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device, 0); }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream_of(device, reinterpret_cast<c10::StreamId>(stream));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*isHighPriority*/) const override {
    return getNewStream(device, 0);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(stream.device());
    current_stream = stream.id();
    return before;
  }
  void* getStreamNativeHandle(const c10::Stream stream) const override { return native(stream); }
  bool queryStream(const c10::Stream& stream) const override {
    return cudaStreamQuery(native(stream)) == cudaSuccess;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    check(cudaStreamSynchronize(native(stream)));
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex /*device*/,
              const c10::EventFlag /*flag*/) const override {
    if (*event == nullptr) {
      cudaEvent_t made = nullptr;
      check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
      *event = made;
    }
    check(cudaEventRecord(static_cast<cudaEvent_t>(*event), native(stream)));
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr) check(cudaStreamWaitEvent(native(stream), static_cast<cudaEvent_t>(event), 0));
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || cudaEventQuery(static_cast<cudaEvent_t>(event)) == cudaSuccess;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
  }
  void destroyEvent(void* event, const c10::DeviceIndex /*device*/) const noexcept override {
    if (event != nullptr) cudaEventDestroy(static_cast<cudaEvent_t>(event));
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

/// What PyTorch asks of CUDA as a whole, under the name by which it looks for that.
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs /*none*/) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  int getNumGPUs() const override { return 1; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex current_device() const override { return getCurrentDevice(); }
  c10::DeviceIndex getCurrentDevice() const override { return Guard().getDevice().index(); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return Guard().exchangeDevice({kCuda, device}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  void setCurrentDevice(c10::DeviceIndex device) const override { Guard().setDevice({kCuda, device}); }
  c10::Device getDeviceFromPtr(void* data) const override {
    cudaPointerAttributes attributes{};
    check(cudaPointerGetAttributes(&attributes, data));
    return {kCuda, static_cast<c10::DeviceIndex>(attributes.device)};
  }
  void deviceSynchronize(c10::DeviceIndex /*device*/) const override { check(cudaDeviceSynchronize()); }
};

/// Of DistributedDataParallel, which wants one for each kind of device. Kernels' times mean nothing here.
struct EmulatedTimer final : c10d::Timer {
  explicit EmulatedTimer(c10::Device /*device*/) {}
  std::optional<std::int64_t> measureDifference(Event /*start*/, Event /*end*/) override {
    return std::nullopt;
  }
};

}  // namespace

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, EmulatedTimer)
}  // namespace c10d

namespace {

/// Of cudaMalloc. Freed memory waits until its program says so: PyTorch's own allocator waits for nobody.
struct Memory final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = nullptr;
    if (bytes != 0) check(cudaMalloc(&memory, bytes));
    return {memory, memory, [](void* freed) { cudaFree(freed); }, Guard().getDevice()};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current()));
  }
};

Memory memory;

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           dtype.value_or(at::kFloat));
}

void move(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current()));
}

/// All of a tensor's storage, behind what the current stream holds.
at::Tensor storage_on_host(const at::Tensor& tensor) {
  const std::size_t bytes = tensor.storage().nbytes();
  at::Tensor all = at::empty({static_cast<std::int64_t>(bytes)}, at::kByte);
  move(all.data_ptr(), tensor.storage().data(), bytes);
  check(cudaStreamSynchronize(current()));
  return all;
}

at::Tensor same_view(const at::Tensor& bytes, const at::Tensor& tensor) {
  return bytes.view(tensor.scalar_type())
      .as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset());
}

at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.is_cuda() ? same_view(storage_on_host(tensor), tensor) : tensor;
}

at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool /*non_blocking*/) {
  const bool alike = to.scalar_type() == from.scalar_type() && to.sizes() == from.sizes() &&
                     to.is_contiguous() && from.is_contiguous() && !from.is_conj() && !from.is_neg();
  if (alike) {
    move(to.data_ptr(), from.data_ptr(), to.nbytes());
    if (!to.is_cuda() || !from.is_cuda()) check(cudaStreamSynchronize(current()));
  } else if (!to.is_cuda()) {
    to.copy_(on_host(from));
  } else {
    at::Tensor all = storage_on_host(to);
    same_view(all, to).copy_(on_host(from));
    move(to.storage().mutable_data(), all.data_ptr(), static_cast<std::size_t>(all.numel()));
    check(cudaStreamSynchronize(current()));
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  at::Tensor target = to;
  if (to.sizes() != from.sizes()) {
    at::Tensor larger = at::empty(from.sizes(), to.options());
    target.unsafeGetTensorImpl()->set_storage_keep_dtype(larger.storage());
    target.unsafeGetTensorImpl()->set_sizes_contiguous(from.sizes());
  }
  return copy(target, from, false);
}

/// How often the allocator was told that another stream uses a tensor.
std::atomic<int> recorded{0};
void record_stream(at::Tensor& /*tensor*/, c10::Stream /*stream*/) { ++recorded; }

at::Tensor to_cuda(const at::Tensor& tensor) {
  at::Tensor there = at::empty(tensor.sizes(), tensor.options().device(c10::Device(kCuda, 0)));
  return copy(there, tensor, false);
}

/// What a storage does when it is resized: FSDP lets go of parameters so, and takes them back.
void resize_storage(at::Tensor& tensor, std::int64_t bytes) {
  c10::StorageImpl& storage = *tensor.storage().unsafeGetStorageImpl();
  const auto wanted = static_cast<std::size_t>(bytes);
  if (wanted == storage.nbytes()) return;
  c10::DataPtr resized = memory.allocate(wanted);
  move(resized.get(), storage.data(), std::min(wanted, storage.nbytes()));
  storage.set_data_ptr_noswap(std::move(resized));
  storage.set_nbytes(wanted);
}

/// Makes a stream the calling thread's. Returns the one before.
std::int64_t set_stream(std::int64_t stream) {
  const c10::StreamId before = current_stream;
  current_stream = stream;
  return before;
}

std::int64_t new_stream() { return Guard().getNewStream(c10::Device(kCuda, 0), 0).id(); }

void synchronize() { check(cudaDeviceSynchronize()); }

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("copy_", &copy);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("record_stream", &record_stream);
}

TORCH_LIBRARY(emulated_cuda, m) {
  m.def("to_cuda(Tensor tensor) -> Tensor", &to_cuda);
  m.def("resize_storage(Tensor(a!) tensor, int bytes) -> ()", &resize_storage);
  m.def("new_stream() -> int", &new_stream);
  m.def("set_stream(int stream) -> int", &set_stream);
  m.def("synchronize() -> ()", &synchronize);
  m.def("recorded() -> int", [] { return static_cast<std::int64_t>(recorded.load()); });
}
