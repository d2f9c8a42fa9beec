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
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <cuda_runtime_api.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <utility>

#include "emulated_device.h"
#include "emulated_memory.h"

using namespace ringtree::testing;

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

namespace {

/// What PyTorch asks of CUDA as a whole, under the name by which it looks for that.
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs /*none*/) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  int getNumGPUs() const override { return device_count(); }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
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

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard here(device.value_or(c10::Device(kCuda)));
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard here(device.value_or(c10::Device(kCuda)));
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           dtype.value_or(at::kFloat));
}

/// Before work that is a kernel on a GPU and is done by the host here. Copies behind what has not been done
/// yet would wait inside of CUDA, where they hold up the process's other threads, as no kernel does.
void wait_outside() { check(cudaStreamSynchronize(current())); }

void move(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current()));
}

/// All of a tensor's storage, behind what the current stream holds.
at::Tensor storage_on_host(const at::Tensor& tensor) {
  const c10::DeviceGuard here(tensor.device());
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

/// The same elements, for the CPU: memory of an emulated device is the host's, too.
at::Tensor seen_by_host(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.scalar_type()));
}

/// Between tensors on GPUs, whatever their types and strides: as a kernel would be, it is enqueued.
void enqueue_copy(const at::Tensor& to, const at::Tensor& from) {
  using Both = std::pair<at::Tensor, at::Tensor>;
  auto* const copied = new Both(seen_by_host(to), seen_by_host(from));
  const auto run = [](void* data) {
    const std::unique_ptr<Both> both(static_cast<Both*>(data));
    both->first.copy_(both->second);
  };
  check(cudaLaunchHostFunc(current(), run, copied));
}

at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool /*non_blocking*/) {
  const c10::DeviceGuard here(to.is_cuda() ? to.device() : from.device());
  const bool alike = to.scalar_type() == from.scalar_type() && to.sizes() == from.sizes() &&
                     to.is_contiguous() && from.is_contiguous() && !from.is_conj() && !from.is_neg();
  if (alike) {
    move(to.data_ptr(), from.data_ptr(), to.nbytes());
    if (!to.is_cuda() || !from.is_cuda()) check(cudaStreamSynchronize(current()));
  } else if (to.is_cuda() && from.is_cuda() && !from.is_conj() && !from.is_neg() &&
             to.sizes() == from.sizes()) {
    enqueue_copy(to, from);
  } else if (!to.is_cuda()) {
    to.copy_(on_host(from));
  } else {
    wait_outside();
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

void record_stream(at::Tensor& tensor, c10::Stream stream) {
  memory.record(tensor.storage().mutable_data(), stream.id());
}

/// To the current device.
at::Tensor to_cuda(const at::Tensor& tensor) {
  at::Tensor there = at::empty(tensor.sizes(), tensor.options().device(Guard().getDevice()));
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

/// Makes a stream of the current device the calling thread's. Returns the one before.
std::int64_t set_stream(std::int64_t stream) {
  return Guard().exchangeStream(Guard().stream_of(kCuda, stream)).id();
}

/// Makes a device the calling thread's. Returns the one before.
std::int64_t set_device(std::int64_t device) {
  return Guard().exchangeDevice({kCuda, static_cast<c10::DeviceIndex>(device)}).index();
}

std::int64_t get_device() { return Guard().getDevice().index(); }

void synchronize() { check(cudaDeviceSynchronize()); }

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  wait_outside();
  at::native::cpu_fallback(op, stack);
}

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
  m.def("set_stream(int stream) -> int", &set_stream);
  m.def("set_device(int device) -> int", &set_device);
  m.def("get_device() -> int", &get_device);
  m.def("synchronize() -> ()", &synchronize);
}
