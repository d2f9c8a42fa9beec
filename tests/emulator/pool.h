// Threads that run lanes, and branches of graphs. There are as many as were ever needed at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "futex.h"

namespace ringtree_emulator {

class Pool {
 public:
  /// Begins job(0) ... job(count - 1), all at the same time. `finished` is called once they have returned and
  /// their threads are free again.
  void start(std::size_t count, std::function<void(std::size_t)> job, std::function<void()> finished);

  std::size_t threads();

 private:
  struct Crowd {
    std::function<void(std::size_t)> job;
    std::function<void()> finished;
    std::atomic<std::size_t> running;
  };

  struct Worker {
    std::shared_ptr<Crowd> crowd;
    std::size_t index = 0;
    Word orders{0};  ///< counts; a change says that crowd and index are new
  };

  Worker* add_worker();
  void serve(Worker& self);

  std::mutex mutex_;
  std::vector<Worker*> idle_;
  std::size_t threads_ = 0;
};

/// The pool of this process.
Pool& pool();

/// Something that is waited for once.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);  // held while notifying: whoever waits may destroy this gate
    is_open_ = true;
    opened_.notify_all();
  }

  void wait() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [&] { return is_open_; });
  }

  bool is_open() {
    const std::lock_guard lock(mutex_);
    return is_open_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

}  // namespace ringtree_emulator
