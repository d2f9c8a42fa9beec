// Copies and fills: work like any other, done by the thread of a stream.
#include <cstring>
#include <memory>
#include <vector>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "graph.h"
#include "runtime.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

/// Where one end of a copy lies.
enum class Side { device, pinned, pageable, broken };

Side side_of(const void* memory, std::size_t bytes) {
  const auto known = find_allocation(memory);
  if (!known) return Side::pageable;
  if (!is_usable(memory, bytes)) return Side::broken;  // begins inside and ends outside
  return known->is_of_host() ? Side::pinned : Side::device;
}

/// CUDA tells from the pointers where they point to, but a device cannot be where only the host is.
bool fits(cudaMemcpyKind kind, Side to, Side from) {
  if (to == Side::broken || from == Side::broken) return false;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return !(to_device && to == Side::pageable) && !(from_device && from == Side::pageable);
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle,
                 bool wait) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  const std::shared_ptr<CUstream_st> stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  const Side target = side_of(to, bytes), source = side_of(from, bytes);
  if (to == nullptr || from == nullptr || !fits(kind, target, source)) return cudaErrorInvalidValue;

  cudaStreamCaptureStatus status{};
  cudaStreamIsCapturing(handle, &status);
  const bool captured = status != cudaStreamCaptureStatusNone;
  Work work = [to, from, bytes] { std::memcpy(to, from, bytes); };
  if (!captured && !wait && source == Side::pageable) {
    // As CUDA, which takes such a source before it returns: callers may reuse it at once.
    const auto* const begin = static_cast<const std::byte*>(from);
    work = [to, taken = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(to, taken.data(), taken.size());
    };
  }
  const bool is_staged = source == Side::pageable && bytes <= kStagedAtMost;
  const bool waits = target == Side::pageable || (source == Side::pageable && !is_staged);
  if (waits && !captured) wait_with_all(*stream);
  enter_queue(*stream);
  const cudaError_t error = submit(*stream, std::move(work));
  if (error == cudaSuccess && !captured && (wait || target == Side::pageable)) stream->wait();
  return error;
}

cudaError_t fill(void* memory, int value, std::size_t bytes, cudaStream_t handle, bool wait) {
  const std::shared_ptr<CUstream_st> stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  const Side side = side_of(memory, bytes);
  if (side == Side::pageable || side == Side::broken) return cudaErrorInvalidValue;
  enter_queue(*stream);
  const cudaError_t error = submit(*stream, [memory, value, bytes] { std::memset(memory, value, bytes); });
  if (error == cudaSuccess && wait) stream->wait();
  return error;
}

}  // namespace
}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return unsafe_api(__func__, [&] {
    wait_for_blocking_streams(current_device());
    return copy(to, from, bytes, kind, nullptr, true);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return api(__func__, [&] { return copy(to, from, bytes, kind, stream, false); });
}

cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  return unsafe_api(__func__, [&] {
    wait_for_blocking_streams(current_device());
    return fill(memory, value, bytes, nullptr, true);
  });
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return api(__func__, [&] { return fill(memory, value, bytes, stream, false); });
}
