#include <algorithm>
#include <atomic>
#include <map>
#include <shared_mutex>
#include <thread>

#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "graph.h"
#include "stream.h"

unsigned long long CUstream_st::next_number() {
  static std::atomic<unsigned long long> last{0};
  return ++last;
}

void CUstream_st::start() {
  std::thread([self = shared_from_this()] { self->serve(); }).detach();
}

void CUstream_st::enqueue(ringtree_emulator::Work work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  ++enqueued_;
  changed_.notify_all();
}

bool CUstream_st::is_idle() {
  const std::lock_guard lock(mutex_);
  return enqueued_ == done_;
}

bool CUstream_st::is_full() {
  const std::lock_guard lock(mutex_);
  return queue_.size() >= ringtree_emulator::kQueuedAtMost;
}

void CUstream_st::wait_for_place() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.size() < ringtree_emulator::kQueuedAtMost; });
}

void CUstream_st::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this, target = enqueued_] { return done_ >= target; });
}

void CUstream_st::close() {
  const std::lock_guard lock(mutex_);
  closing_ = true;
  changed_.notify_all();
}

void CUstream_st::serve() {
  for (;;) {
    ringtree_emulator::Work work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    changed_.notify_all();  // there is a place in the queue
    work();
    work = nullptr;  // whoever waits for the work may expect that nothing of it is left
    const std::lock_guard lock(mutex_);
    ++done_;
    changed_.notify_all();
  }
}

namespace ringtree_emulator {
namespace {

/// Streams that exist without having been created.
struct DefaultStreams {
  std::shared_ptr<CUstream_st> of(int device) {
    const std::lock_guard lock(mutex);
    auto& stream = streams[device];
    if (stream == nullptr) {
      stream = std::make_shared<CUstream_st>(device, true);
      stream->start();
    }
    return stream;
  }

  std::vector<std::shared_ptr<CUstream_st>> all() {
    const std::lock_guard lock(mutex);
    std::vector<std::shared_ptr<CUstream_st>> found;
    for (const auto& entry : streams) found.push_back(entry.second);
    return found;
  }

  std::mutex mutex;
  std::map<int, std::shared_ptr<CUstream_st>> streams;
};

/// Those of one thread: registered, so that cudaDeviceSynchronize() sees them, until the thread ends.
struct ThreadStreams {
  ThreadStreams() { owner = immortal<Registry<DefaultStreams>>().add(std::make_shared<DefaultStreams>()); }
  ~ThreadStreams() {
    const auto ending = immortal<Registry<DefaultStreams>>().remove(owner);
    for (const auto& stream : ending->all()) {
      leave_capture(*stream);
      stream->close();
    }
  }
  ThreadStreams(const ThreadStreams&) = delete;
  ThreadStreams& operator=(const ThreadStreams&) = delete;

  DefaultStreams* owner;
};

/// Held while work is submitted to a device.
std::shared_mutex& submissions(int device) {
  struct Locks {
    std::mutex mutex;
    std::map<int, std::shared_mutex> all;
  };
  auto& locks = immortal<Locks>();
  const std::lock_guard lock(locks.mutex);
  return locks.all[device];
}

Registry<CUstream_st>& created_streams() { return immortal<Registry<CUstream_st>>(); }

cudaError_t create_stream(cudaStream_t* stream, unsigned flags) {
  if (stream == nullptr || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  if (!is_device(current_device())) return cudaErrorNoDevice;
  auto made = std::make_shared<CUstream_st>(current_device(), flags != cudaStreamNonBlocking);
  made->start();
  *stream = created_streams().add(std::move(made));
  return cudaSuccess;
}

/// For calls that look at what a stream has done, which one that only records has not.
template <class Body>
cudaError_t look_at(cudaStream_t handle, Body body) {
  const std::shared_ptr<CUstream_st> stream = find_stream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  {
    const std::lock_guard lock(capture_mutex());
    if (is_capturing(*stream)) return refuse(*stream->captured.capture, cudaErrorStreamCaptureUnsupported);
  }
  return body(*stream);
}

std::vector<std::shared_ptr<CUstream_st>> streams_of(int device) {
  std::vector<std::shared_ptr<CUstream_st>> streams = created_streams().all();
  const auto add = [&](DefaultStreams& more) {
    for (auto& stream : more.all()) streams.push_back(std::move(stream));
  };
  add(immortal<DefaultStreams>());
  for (const auto& of_thread : immortal<Registry<DefaultStreams>>().all()) add(*of_thread);
  std::erase_if(streams, [&](const auto& stream) { return stream->device != device; });
  return streams;
}

}  // namespace

bool is_legacy(cudaStream_t handle) { return handle == nullptr || handle == cudaStreamLegacy; }

std::shared_ptr<CUstream_st> find_stream(cudaStream_t handle) {
  if (!is_legacy(handle) && handle != cudaStreamPerThread) return created_streams().find(handle);
  if (!is_device(current_device())) return nullptr;
  if (is_legacy(handle)) return immortal<DefaultStreams>().of(current_device());
  thread_local const ThreadStreams own;
  return own.owner->of(current_device());
}

void enter_queue(CUstream_st& stream) {
  {
    const std::shared_lock lock(submissions(stream.device));
    if (!stream.is_full()) return;
  }
  const std::unique_lock all(submissions(stream.device));
  stream.wait_for_place();
}

void wait_with_all(CUstream_st& stream) {
  if (stream.is_idle()) return;
  const std::unique_lock all(submissions(stream.device));
  stream.wait();
}

void wait_for_device(int device) {
  for (const auto& stream : streams_of(device)) stream->wait();
}

bool is_idle(int device) {
  const auto streams = streams_of(device);
  return std::all_of(streams.begin(), streams.end(), [](const auto& stream) { return stream->is_idle(); });
}

void wait_for_blocking_streams(int device) {
  for (const auto& stream : streams_of(device))
    if (stream->is_blocking) stream->wait();
}

void count_streams(Statistics& statistics) {
  statistics.streams = created_streams().size();
  statistics.events = immortal<Registry<CUevent_st>>().size();
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return api(__func__, [&] { return create_stream(stream, cudaStreamDefault); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return api(__func__, [&] { return create_stream(stream, flags); });
}

// Priorities mean nothing here; CUDA too clamps those that do not exist.
cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long* number) {
  return api(__func__, [&] {
    if (number == nullptr) return cudaErrorInvalidValue;
    return look_at(handle, [&](const CUstream_st& stream) {
      *number = stream.number;
      return cudaSuccess;
    });
  });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int /*priority*/) {
  return api(__func__, [&] { return create_stream(stream, flags); });
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUstream_st> stream = created_streams().remove(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    leave_capture(*stream);
    stream->close();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return unsafe_api(__func__, [&] {
    return look_at(handle, [](CUstream_st& stream) {
      stream.wait();
      return cudaSuccess;
    });
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return unsafe_api(__func__, [&] {
    return look_at(handle,
                   [](CUstream_st& stream) { return stream.is_idle() ? cudaSuccess : cudaErrorNotReady; });
  });
}

cudaError_t cudaDeviceSynchronize() {
  return unsafe_api(__func__, [&] {
    if (refuse_captures_on(current_device())) return cudaErrorStreamCaptureUnsupported;
    wait_for_device(current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return api(__func__, [&] {
    if (function == nullptr) return cudaErrorInvalidValue;
    const std::shared_ptr<CUstream_st> stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return submit(*stream, [function, data] {
      const CallsForbidden forbidden;
      function(data);
    });
  });
}
