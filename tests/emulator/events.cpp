#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "graph.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

Registry<CUevent_st>& events() { return immortal<Registry<CUevent_st>>(); }

cudaError_t create_event(cudaEvent_t* event, unsigned flags) {
  constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;  // none for other processes
  if (event == nullptr || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
  if (!is_device(current_device())) return cudaErrorNoDevice;
  *event = events().add(std::make_shared<CUevent_st>(current_device(), flags));
  return cudaSuccess;
}

/// The mark that `event` stands for, or why nobody may ask.
cudaError_t mark_of(cudaEvent_t handle, std::shared_ptr<Mark>& mark) {
  const std::shared_ptr<CUevent_st> event = events().find(handle);
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  const std::lock_guard capture_lock(capture_mutex());
  const std::lock_guard lock(event->mutex);
  if (event->captured.capture != nullptr) return refuse(*event->captured.capture, cudaErrorCapturedEvent);
  mark = event->mark;
  return cudaSuccess;
}

}  // namespace
}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return api(__func__, [&] { return create_event(event, cudaEventDefault); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api(__func__, [&] { return create_event(event, flags); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return api(__func__, [&] {
    return events().remove(event) == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUevent_st> event = events().find(handle);
    const std::shared_ptr<CUstream_st> stream = find_stream(stream_handle);
    if (event == nullptr || stream == nullptr || event->device != stream->device)
      return cudaErrorInvalidResourceHandle;
    enter_queue(*stream);
    const std::lock_guard capture_lock(capture_mutex());
    const std::lock_guard lock(event->mutex);
    if (is_capturing(*stream)) {
      if (!stream->captured.capture->is_valid) return cudaErrorStreamCaptureInvalidated;
      event->captured = stream->captured;
      return cudaSuccess;
    }
    event->captured = {};
    event->mark = std::make_shared<Mark>();
    stream->enqueue([mark = event->mark] {
      mark->time = std::chrono::steady_clock::now();
      mark->reached.open();
    });
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t handle, unsigned flags) {
  return api(__func__, [&] {
    if (flags != cudaEventWaitDefault) return cudaErrorInvalidValue;
    const std::shared_ptr<CUevent_st> event = events().find(handle);
    const std::shared_ptr<CUstream_st> stream = find_stream(stream_handle);
    if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
    const std::lock_guard capture_lock(capture_mutex());
    const std::lock_guard lock(event->mutex);
    if (event->captured.capture != nullptr) return join(*stream, event->captured);
    if (is_capturing(*stream)) return refuse(*stream->captured.capture, cudaErrorStreamCaptureIsolation);
    if (event->mark != nullptr) stream->enqueue([mark = event->mark] { mark->reached.wait(); });
    return cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return unsafe_api(__func__, [&] {
    std::shared_ptr<Mark> mark;
    if (const cudaError_t refused = mark_of(event, mark); refused != cudaSuccess) return refused;
    return mark == nullptr || mark->reached.is_open() ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return unsafe_api(__func__, [&] {
    std::shared_ptr<Mark> mark;
    if (const cudaError_t refused = mark_of(event, mark); refused != cudaSuccess) return refused;
    if (mark != nullptr) mark->reached.wait();
    return cudaSuccess;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return unsafe_api(__func__, [&] {
    std::shared_ptr<Mark> first, second;
    if (const cudaError_t refused = mark_of(start, first); refused != cudaSuccess) return refused;
    if (const cudaError_t refused = mark_of(end, second); refused != cudaSuccess) return refused;
    const auto timed = [](cudaEvent_t event) { return (event->flags & cudaEventDisableTiming) == 0; };
    if (first == nullptr || second == nullptr || !timed(start) || !timed(end))
      return cudaErrorInvalidResourceHandle;
    if (!first->reached.is_open() || !second->reached.is_open()) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(second->time - first->time).count();
    return cudaSuccess;
  });
}
