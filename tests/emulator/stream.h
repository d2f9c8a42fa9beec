// A stream: a queue of work and the thread that does it in order. An event: a mark in such a queue.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "emulator.h"
#include "pool.h"
#include "runtime.h"

namespace ringtree_emulator {

using Work = std::function<void()>;
struct Capture;

/// What a stream, or a mark in it, depends on while it is being captured: nodes of the capture's graph.
struct Captured {
  std::shared_ptr<Capture> capture;  ///< null: none
  std::vector<std::size_t> tail;
};

/// Enqueues `work`, or records it if the stream is being captured.
cudaError_t submit(CUstream_st& stream, Work work);

/// Before work is submitted. In a full queue it waits for a place, and while it does no other thread of the
/// process submits any work to the device, either: CUDA holds a lock there.
void enter_queue(CUstream_st& stream);
/// Until all of the stream's work is done. The same goes for other threads: a copy from or to memory that is
/// not pinned waits like that.
void wait_with_all(CUstream_st& stream);

/// Null if there is no such stream. 0, cudaStreamLegacy and cudaStreamPerThread are streams of the current
/// device.
std::shared_ptr<CUstream_st> find_stream(cudaStream_t handle);
bool is_legacy(cudaStream_t handle);

/// Waits for all that has been enqueued on the device until now.
void wait_for_device(int device);
/// Whether there is nothing to wait for.
bool is_idle(int device);
/// The same for the streams that what is enqueued on the legacy one waits for.
void wait_for_blocking_streams(int device);

void count_streams(Statistics& statistics);

}  // namespace ringtree_emulator

struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
  CUstream_st(int device_, bool is_blocking_) : device(device_), is_blocking(is_blocking_) {}

  /// Begins to serve. The thread keeps this object alive.
  void start();
  void enqueue(ringtree_emulator::Work work);
  bool is_idle();
  bool is_full();
  /// Until it is not full.
  void wait_for_place();
  /// Until all that has been enqueued before has been done.
  void wait();
  /// No more work will come. What has been enqueued is still done.
  void close();

  const unsigned long long number = next_number();  ///< no other one of the process has it
  const int device;
  const bool is_blocking;                ///< calls on the legacy stream wait for it
  ringtree_emulator::Captured captured;  ///< guarded by capture_mutex() in graph.h

 private:
  void serve();
  static unsigned long long next_number();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ringtree_emulator::Work> queue_;
  std::uint64_t enqueued_ = 0, done_ = 0;
  bool closing_ = false;
};

namespace ringtree_emulator {

/// One recording of an event.
struct Mark {
  Gate reached;
  std::chrono::steady_clock::time_point time;  ///< once reached
};

}  // namespace ringtree_emulator

struct CUevent_st {
  CUevent_st(int device_, unsigned flags_) : device(device_), flags(flags_) {}

  const int device;
  const unsigned flags;
  std::mutex mutex;
  std::shared_ptr<ringtree_emulator::Mark> mark;  ///< of the newest recording; null: none yet
  ringtree_emulator::Captured captured;           ///< if that was in a capture
};
