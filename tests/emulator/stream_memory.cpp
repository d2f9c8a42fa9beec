// Memory in the order of a stream: cudaMallocAsync() and cudaFreeAsync().
#include <unistd.h>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "runtime.h"
#include "stream.h"

using namespace ringtree_emulator;

/// There at once, which is earlier than CUDA promises.
cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream) {
  const bool known = api(__func__, [&] {
                       return find_stream(stream) == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess;
                     }) == cudaSuccess;
  if (!known) return cudaErrorInvalidResourceHandle;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  const cudaError_t result = cudaMalloc(memory, bytes);
  cudaThreadExchangeStreamCaptureMode(&mode);
  return result;
}

/// When the stream has come there. What a graph frees stays until the process ends: its next run uses it
/// again.
cudaError_t cudaFreeAsync(void* memory, cudaStream_t handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (memory == nullptr) return cudaSuccess;
    const auto known = find_allocation(memory, 0);
    if (!known || known->kind != Allocation::device || known->base != memory) return cudaErrorInvalidValue;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(handle, &status);
    if (status != cudaStreamCaptureStatusNone) return cudaSuccess;
    return submit(*stream, [memory] {
      const auto lock = lock_allocations();
      const Allocation* const found = allocation_at(memory, Allocation::device);
      if (found == nullptr) return;
      const Allocation gone = *found;
      remove_allocation(memory);
      unmap_guarded(gone.base, gone.bytes);
      close(gone.file);
    });
  });
}
