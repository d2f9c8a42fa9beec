#include <algorithm>
#include <utility>

#include "cuda_runtime_api.h"
#include "graph.h"

namespace ringtree_emulator {
namespace {

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

struct Captures {
  std::mutex mutex;
  std::vector<std::shared_ptr<Capture>> active;
  unsigned long long begun = 0;
};

Captures& captures() { return immortal<Captures>(); }

/// Whether a call that CUDA counts as unsafe may not be made by this thread because of `capture`.
bool forbids(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed || capture.mode == cudaStreamCaptureModeRelaxed)
    return false;
  if (capture.thread == std::this_thread::get_id()) return true;
  return thread_mode == cudaStreamCaptureModeGlobal && capture.mode == cudaStreamCaptureModeGlobal;
}

/// Whether all that the streams have recorded comes before the end of the origin's.
bool is_joined(const Capture& capture) {
  std::vector<bool> reached(capture.nodes.size());
  for (const std::size_t node : capture.origin->captured.tail) reached[node] = true;
  for (std::size_t node = capture.nodes.size(); node-- > 0;)
    if (reached[node])
      for (const std::size_t earlier : capture.nodes[node].after) reached[earlier] = true;
  return std::find(reached.begin(), reached.end(), false) == reached.end();
}

void end(Capture& capture) {
  for (CUstream_st* const stream : capture.streams) stream->captured = {};
  capture.streams.clear();
  std::erase_if(captures().active, [&](const auto& other) { return other.get() == &capture; });
}

}  // namespace

std::mutex& capture_mutex() { return captures().mutex; }

bool is_capturing(const CUstream_st& stream) { return stream.captured.capture != nullptr; }

cudaError_t refuse(Capture& capture, cudaError_t error) {
  capture.is_valid = false;
  return error;
}

cudaError_t enter_unsafe() {
  const std::lock_guard lock(capture_mutex());
  cudaError_t error = cudaSuccess;
  for (const auto& capture : captures().active)
    if (forbids(*capture)) error = refuse(*capture, cudaErrorStreamCaptureUnsupported);
  return error;
}

cudaError_t submit(CUstream_st& stream, Work work) {
  const std::lock_guard lock(capture_mutex());
  if (!is_capturing(stream)) {
    stream.enqueue(std::move(work));
    return cudaSuccess;
  }
  Capture& capture = *stream.captured.capture;
  if (!capture.is_valid) return cudaErrorStreamCaptureInvalidated;
  capture.nodes.push_back({std::move(work), std::move(stream.captured.tail)});
  stream.captured.tail = {capture.nodes.size() - 1};
  return cudaSuccess;
}

cudaError_t join(CUstream_st& stream, const Captured& event) {
  Capture& capture = *event.capture;
  if (capture.streams.empty()) return cudaErrorCapturedEvent;  // that capture has ended
  if (!capture.is_valid) return cudaErrorStreamCaptureInvalidated;
  if (!is_capturing(stream)) {
    stream.captured = event;
    capture.streams.push_back(&stream);
    return cudaSuccess;
  }
  if (stream.captured.capture != event.capture) {
    refuse(*stream.captured.capture, cudaErrorStreamCaptureMerge);
    return refuse(capture, cudaErrorStreamCaptureMerge);
  }
  auto& tail = stream.captured.tail;
  for (const std::size_t node : event.tail)
    if (std::find(tail.begin(), tail.end(), node) == tail.end()) tail.push_back(node);
  return cudaSuccess;
}

void leave_capture(CUstream_st& stream) {
  const std::lock_guard lock(capture_mutex());
  if (!is_capturing(stream)) return;
  const std::shared_ptr<Capture> capture = stream.captured.capture;
  if (capture->origin == &stream) {
    capture->is_valid = false;
    end(*capture);  // nobody is left who could
  } else {
    std::erase(capture->streams, &stream);
  }
}

bool refuse_captures_on(int device) {
  const std::lock_guard lock(capture_mutex());
  bool any = false;
  for (const auto& capture : captures().active)
    if (capture->origin->device == device) {
      capture->is_valid = false;
      any = true;
    }
  return any;
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return api(__func__, [&] {
    if (is_legacy(handle)) return cudaErrorStreamCaptureUnsupported;
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(capture_mutex());
    if (is_capturing(*stream)) return cudaErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    capture->id = ++captures().begun;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = stream.get();
    capture->streams = {stream.get()};
    stream->captured = {capture, {}};
    captures().active.push_back(std::move(capture));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (graph == nullptr) return cudaErrorInvalidValue;
    const std::lock_guard lock(capture_mutex());
    if (!is_capturing(*stream)) return cudaErrorIllegalState;
    const std::shared_ptr<Capture> capture = stream->captured.capture;
    if (capture->origin != stream.get()) return refuse(*capture, cudaErrorStreamCaptureUnmatched);
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
      return cudaErrorStreamCaptureWrongThread;
    *graph = nullptr;
    const bool joined = is_joined(*capture);
    end(*capture);
    if (!capture->is_valid) return cudaErrorStreamCaptureInvalidated;
    if (!joined) return cudaErrorStreamCaptureUnjoined;
    *graph = make_graph(std::move(capture->nodes));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const std::lock_guard lock(capture_mutex());
    if (!is_capturing(*stream))
      *status = cudaStreamCaptureStatusNone;
    else if (stream->captured.capture->is_valid)
      *status = cudaStreamCaptureStatusActive;
    else
      *status = cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph) {
  if (graph != nullptr)
    return remember(cudaErrorNotSupported);  // a graph cannot be changed here while it grows
  if (const cudaError_t error = cudaStreamIsCapturing(handle, status); error != cudaSuccess) return error;
  if (id == nullptr || *status != cudaStreamCaptureStatusActive) return cudaSuccess;
  const std::shared_ptr<CUstream_st> stream = find_stream(handle);
  const std::lock_guard lock(capture_mutex());
  *id = is_capturing(*stream) ? stream->captured.capture->id : 0;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return api(__func__, [&] {
    current_device();  // CUDA starts there for this, too
    std::swap(*mode, thread_mode);
    return cudaSuccess;
  });
}
