#include "cuda/runtime.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>

#include "core/errors.h"
#include "cuda/driver.h"
#include "cuda/kept.h"

namespace ringtree {
namespace {

/// One of the calling thread's device, on which nothing ever waits for a kernel: whoever else works there,
/// and whatever CUDA puts in order with the legacy stream, may be waiting for this thread. It is never
/// destroyed. Its priority is there to keep it out of the queue of the hardware that a rank's stream is in.
cudaStream_t stream_for_memory() {
  static std::mutex mutex;
  static std::map<int, cudaStream_t> streams;
  const std::lock_guard lock(mutex);
  cudaStream_t& stream = streams[current_device()];
  if (stream == nullptr) {
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest),
               "a stream to make memory ready");
  }
  return stream;
}

/// Whether this process uses the device.
bool has_begun(int device) {
  static const auto state_of =
      driver_function<decltype(cuDevicePrimaryCtxGetState)>("cuDevicePrimaryCtxGetState");
  unsigned flags = 0;
  int is_active = 1;
  return state_of == nullptr || state_of(device, &flags, &is_active) != CUDA_SUCCESS || is_active != 0;
}

}  // namespace

void check_cuda(cudaError_t result, const std::string& what) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // it would come again from the next call that asks
  throw TransportError(what + ": " + cudaGetErrorString(result) + " (" + cudaGetErrorName(result) + ")");
}

OnDevice::OnDevice(int device) : device_(device) {
  check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device) check_cuda(cudaSetDevice(device), "cudaSetDevice");
}

OnDevice::OnDevice(int device, std::nothrow_t /*unused*/) noexcept : device_(device) {
  cudaGetDevice(&before_);
  if (before_ != device) cudaSetDevice(device);
}

/// To set a device is to start CUDA there, which takes half a GiB of its memory. What a thread has that has
/// never set one is device 0, used or not.
OnDevice::~OnDevice() {
  if (before_ != device_ && has_begun(before_)) cudaSetDevice(before_);
}

DeviceMemory<std::byte> allocate_on_device(std::size_t bytes, const std::string& what) {
  void* memory = take_kept_on_device(bytes);
  if (memory == nullptr && cudaMalloc(&memory, bytes) != cudaSuccess) {
    cudaGetLastError();
    free_kept_on_device();
    check_cuda(cudaMalloc(&memory, bytes), what + ": " + std::to_string(bytes) + " bytes on the GPU");
  }
  DeviceMemory<std::byte> owned(static_cast<std::byte*>(memory));
  const cudaStream_t stream = stream_for_memory();
  check_cuda(cudaMemsetAsync(memory, 0, bytes, stream), what);
  check_cuda(cudaStreamSynchronize(stream), what);
  return owned;
}

void copy_to_device(void* to, const void* from, std::size_t bytes, const std::string& what) {
  const cudaStream_t stream = stream_for_memory();
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), what);
  check_cuda(cudaStreamSynchronize(stream), what);
}

HostMemory<std::byte> allocate_on_host(std::size_t bytes, const std::string& what) {
  void* memory = take_kept_on_host(bytes);
  if (memory == nullptr)
    check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped),
               what + ": " + std::to_string(bytes) + " bytes of the host");
  std::memset(memory, 0, bytes);
  return HostMemory<std::byte>(static_cast<std::byte*>(memory));
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

int attribute_of(int device, cudaDeviceAttr attribute) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

std::string bus_of(int device) {
  std::array<char, 32> name{};
  check_cuda(cudaDeviceGetPCIBusId(name.data(), static_cast<int>(name.size()), device),
             "cudaDeviceGetPCIBusId");
  return name.data();
}

}  // namespace ringtree
