// The barrier of a block. Lanes are many and cores few: it looks a few times, then sleeps.
#pragma once

#include <sched.h>

#include "futex.h"

namespace ringtree_emulator {

class Barrier {
 public:
  explicit Barrier(std::uint32_t lanes) : lanes_(lanes), missing_(lanes) {}

  void arrive_and_wait() {
    const std::uint32_t phase = phase_.load(std::memory_order_relaxed);  // stays until this lane has arrived
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      missing_.store(lanes_, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_seq_cst);  // pairs with: the loads below
      if (sleepers_.load(std::memory_order_seq_cst) != 0) wake_all(phase_);
      return;
    }
    for (int look = 0; look < kLooks; ++look) {
      if (phase_.load(std::memory_order_acquire) != phase) return;
      sched_yield();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (phase_.load(std::memory_order_seq_cst) == phase) sleep_on(phase_, phase);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  static constexpr int kLooks = 8;

  const std::uint32_t lanes_;
  Word missing_;
  Word phase_{0};
  Word sleepers_{0};
};

}  // namespace ringtree_emulator
