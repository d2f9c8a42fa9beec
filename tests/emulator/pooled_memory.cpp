// Memory in the order of a stream: cudaMallocAsync() and cudaFreeAsync().
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "runtime.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

void free_in_order(void* memory, Allocation::Kind kind) {
  if (free_allocation(memory, kind)) return;
  std::fprintf(stderr, "ringtree emulator: cudaFreeAsync of memory that has been freed before\n");
  std::abort();
}

/// The memory of a graph is there from the capture until the last copy of its nodes is destroyed; at each
/// launch it holds nothing that is of use.
cudaError_t allocate_in_graph(void** memory, std::size_t bytes, CUstream_st& stream) {
  const cudaError_t error = allocate(memory, bytes, Allocation::graph);
  if (error != cudaSuccess || bytes == 0) return error;
  const auto owner =
      std::shared_ptr<void>(*memory, [](void* gone) { free_allocation(gone, Allocation::graph); });
  return submit(stream, [owner, bytes] { std::memset(owner.get(), kPoison, bytes); });
}

}  // namespace
}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return is_captured(handle) ? allocate_in_graph(memory, bytes, *stream)
                               : allocate(memory, bytes, Allocation::pooled);
  });
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (memory == nullptr) return cudaSuccess;
    const auto known = find_allocation(memory, 0);
    const bool captured = is_captured(handle);
    if (!known || known->base != memory || !known->is_own()) return cudaErrorInvalidValue;
    if (captured != (known->kind == Allocation::graph)) return cudaErrorInvalidValue;
    if (captured) return submit(*stream, [] {});  // until the graph goes
    return submit(*stream, [memory, kind = known->kind] { free_in_order(memory, kind); });
  });
}
