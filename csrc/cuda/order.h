// The order of a communicator's calls on a GPU, and an event behind them.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <mutex>
#include <vector>

namespace ringtree {

/// Destroyed with its last owner.
using Event = std::shared_ptr<CUevent_st>;

/// Without times. Throws TransportError.
Event make_event();

/// Whether what lies before it has been done. Never while a graph is captured that it is of.
bool is_over(const Event& event);

/// Calls of a communicator run in the order in which they are made, whatever their streams: each leaves an
/// event behind it. Not only once there is a second stream: the first one might be gone by then, and to wait
/// for the device instead would be to wait for ranks that share it and wait for this one.
///
/// While a graph is captured its own order holds: how calls on two streams of one capture follow one another
/// is up to the program.
///
/// For one thread at a time, but for what asks of all communicators.
class StreamOrder {
 public:
  StreamOrder();
  StreamOrder(const StreamOrder&) = delete;
  StreamOrder& operator=(const StreamOrder&) = delete;
  ~StreamOrder();

  /// Before a launch on `stream`.
  void enter(cudaStream_t stream);
  /// After it.
  void leave(cudaStream_t stream);
  /// Until what was launched is over.
  void wait() const;

  /// Behind the calls that all communicators have made so far; later calls do not delay them.
  static std::vector<Event> behind_all();
  /// Whether all of those are over. Graphs that have not begun are not seen.
  static bool is_over_everywhere();

 private:
  Event unshared() const;

  unsigned long long last_ = 0;  ///< the number of its stream
  mutable std::mutex mutex_;     ///< guards:
  Event behind_last_;            ///< null: there was no call yet
};

}  // namespace ringtree
