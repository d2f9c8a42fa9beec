// How far a rank that is a thread may run ahead of its GPU.
//
// CUDA's queue of a stream has about a thousand places. A launch that finds it full waits, and while it does
// no other thread of the process gets to launch anything: not even the kernel that the queue's first one
// waits for. So ranks that are threads wait before that, outside of CUDA. Those that are processes hold up
// nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "core/gpu.h"

namespace ringtree {

class GpuAhead {
 public:
  /// Calls. Each takes up to six places, and the program's own kernels between them take some, too.
  static constexpr std::size_t kMost = 64;

  /// Whether so many calls that are in no graph have been launched and are not over; `look()` gives a
  /// GpuProgress.
  template <class Look>
  bool is_far(Look look) {
    if (sequences_.size() < kMost) return false;
    const GpuProgress progress = look();
    while (!sequences_.empty() && is_over(sequences_.front(), progress)) sequences_.pop_front();
    return sequences_.size() >= kMost;
  }

  void add(std::uint64_t sequence) { sequences_.push_back(sequence); }

 private:
  static bool is_over(std::uint64_t sequence, const GpuProgress& progress) {
    return sequence <= ((sequence & kGpuMessage) != 0 ? progress.finished_messages : progress.finished);
  }

  std::deque<std::uint64_t> sequences_;
};

}  // namespace ringtree
