// The CUDA runtime with owners for what it hands out, and its errors as ours.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <new>
#include <string>

namespace ringtree {

/// Throws TransportError, which begins with `what`, unless the call succeeded.
void check_cuda(cudaError_t result, const std::string& what);

/// Makes `device` the calling thread's for as long as this lives, and longer if this process does not use the
/// one that was the thread's before.
class OnDevice {
 public:
  explicit OnDevice(int device);
  /// Where nobody can do without: what CUDA then refuses, it refuses.
  OnDevice(int device, std::nothrow_t /*unused*/) noexcept;
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice();

 private:
  int device_, before_ = 0;
};

/// While one lives its thread may take and map memory, also while a stream is being captured. That memory is
/// not part of the graph: CUDA would count it as a mistake of the program's, and end the capture.
class BesideCapture {
 public:
  BesideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  BesideCapture(const BesideCapture&) = delete;
  BesideCapture& operator=(const BesideCapture&) = delete;
  ~BesideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  ///< and then what it was before
};

struct FreesDeviceMemory {
  void operator()(void* memory) const { cudaFree(memory); }
};
struct FreesHostMemory {
  void operator()(void* memory) const { cudaFreeHost(memory); }
};
struct UnregistersHostMemory {
  void operator()(void* memory) const { cudaHostUnregister(memory); }
};
struct ClosesPeerMemory {
  void operator()(void* memory) const { cudaIpcCloseMemHandle(memory); }
};

/// On the calling thread's device.
template <class T>
using DeviceMemory = std::unique_ptr<T, FreesDeviceMemory>;
/// Of the host, where kernels reach it at the same address.
template <class T>
using HostMemory = std::unique_ptr<T, FreesHostMemory>;
/// Somebody else's, which kernels reach as long as this lives.
template <class T>
using RegisteredMemory = std::unique_ptr<T, UnregistersHostMemory>;
/// Of another process's device.
using PeerMemory = std::unique_ptr<std::byte, ClosesPeerMemory>;

/// The driver packs smaller allocations together, and a peer that maps one would get what lies before it.
inline constexpr std::size_t kSmallestMappedBytes = std::size_t{2} << 20U;

/// What to allocate for `bytes` that peers may want to map, as they do from 64 KiB on.
constexpr std::size_t mappable_bytes(std::size_t bytes) {
  constexpr std::size_t kMayBeMapped = std::size_t{64} << 10U;
  return bytes < kMayBeMapped || bytes > kSmallestMappedBytes ? bytes : kSmallestMappedBytes;
}

/// All bytes are zero.
DeviceMemory<std::byte> allocate_on_device(std::size_t bytes, const std::string& what);
HostMemory<std::byte> allocate_on_host(std::size_t bytes, const std::string& what);

/// Waits for itself alone, not for the device.
void copy_to_device(void* to, const void* from, std::size_t bytes, const std::string& what);

bool is_capturing(cudaStream_t stream);

int current_device();
int attribute_of(int device, cudaDeviceAttr attribute);

/// Of the hardware: the same for two processes that see it under different numbers.
std::string bus_of(int device);

}  // namespace ringtree
