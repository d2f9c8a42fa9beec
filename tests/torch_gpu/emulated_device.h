// Devices, streams and events of PyTorch, which are those of the emulated runtime.
#pragma once

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <map>

namespace ringtree::testing {

constexpr c10::DeviceType kCuda = c10::DeviceType::CUDA;

inline void check(cudaError_t result) { TORCH_CHECK(result == cudaSuccess, cudaGetErrorString(result)); }

/// Asked of a process that is still to be forked, so it may not begin the emulation.
inline c10::DeviceIndex device_count() {
  const char* const said = std::getenv("RINGTREE_EMULATED_DEVICES");
  return static_cast<c10::DeviceIndex>(said == nullptr ? 1 : std::atoi(said));
}

/// Of the calling thread, by device; 0 is the default one.
inline thread_local std::map<c10::DeviceIndex, c10::StreamId> current_streams;

inline cudaStream_t native(c10::StreamId stream) { return reinterpret_cast<cudaStream_t>(stream); }
inline cudaStream_t native(const c10::Stream& stream) { return native(stream.id()); }

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
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }

  c10::Device with_index(c10::Device device) const { return device.has_index() ? device : getDevice(); }
  c10::Stream stream_of(c10::Device device, c10::StreamId id) const {
    return c10::Stream(c10::Stream::UNSAFE, with_index(device), id);
  }
  c10::Stream getStream(c10::Device device) const override {
    return stream_of(device, current_streams[with_index(device).index()]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device, 0); }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    const c10::Device before = exchangeDevice(device);
    cudaStream_t stream = nullptr;
    const cudaError_t result = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    setDevice(before);
    check(result);
    return stream_of(device, reinterpret_cast<c10::StreamId>(stream));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*isHighPriority*/) const override {
    return getNewStream(device, 0);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(stream.device());
    current_streams[stream.device_index()] = stream.id();
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

/// That of the current device.
inline cudaStream_t current() { return native(Guard().getStream(kCuda)); }

}  // namespace ringtree::testing
