// What measurements and tests want of a GPU beside collectives: its floors, its clock, calls recorded as a
// graph, and more streams than one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/gpu.h"

namespace ringtree {

/// The time between two points of a stream, by the GPU's own clock.
class GpuTimer {
 public:
  virtual ~GpuTimer() = default;

  virtual void start(GpuStream stream) = 0;
  virtual void stop(GpuStream stream) = 0;
  /// Waits until the stream has come to the second point.
  virtual double seconds() const = 0;
};

/// A stream that waits for no other one, the default stream least of all. What it holds at its end still
/// runs.
class GpuOwnStream {
 public:
  virtual ~GpuOwnStream() = default;

  virtual GpuStream get() const = 0;
};

/// What a stream was told while it was recorded.
class GpuGraph {
 public:
  virtual ~GpuGraph() = default;

  virtual void replay(GpuStream stream) = 0;
};

/// All of it throws TransportError.
class GpuProbe {
 public:
  virtual ~GpuProbe() = default;

  /// Makes a device the calling thread's.
  virtual void use(int device) = 0;
  virtual int current() const = 0;
  /// Of the hardware: the same in all processes, under whatever number they see it.
  virtual std::string bus(int device) const = 0;

  /// Enqueues a copy.
  virtual void copy(void* to, const void* from, std::size_t bytes, GpuStream stream) = 0;
  virtual void synchronize(GpuStream stream) = 0;

  /// Enqueues a kernel that does nothing: no call on a GPU takes less time.
  virtual void launch_empty(GpuStream stream) = 0;
  /// Seconds of a kernel of two blocks that answer each other's flag so many times. Waits for it.
  virtual double round_trips(int count, GpuStream stream) = 0;

  virtual std::unique_ptr<GpuTimer> timer() = 0;
  virtual std::unique_ptr<GpuOwnStream> stream() = 0;

  /// From now on calls on this stream, made by this thread, are recorded and do not run.
  virtual void begin_recording(GpuStream stream) = 0;
  virtual std::unique_ptr<GpuGraph> end_recording(GpuStream stream) = 0;
};

}  // namespace ringtree
