// Ranks that are threads of the test: they meet to exchange words, as a rendezvous would have them.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/gpu.h"

namespace ringtree::testing {

class Meeting {
 public:
  explicit Meeting(int world) : words_(static_cast<std::size_t>(world)) {}

  int world() const { return static_cast<int>(words_.size()); }

  std::vector<std::string> exchange(int rank, const std::string& own) {
    std::unique_lock lock(mutex_);
    words_[static_cast<std::size_t>(rank)] = own;
    if (++arrived_ == words_.size()) {
      arrived_ = 0;
      ++turn_;
      shown_ = words_;
      changed_.notify_all();
      return shown_;
    }
    const std::uint64_t turn = turn_;
    changed_.wait(lock, [&] { return turn_ != turn || is_broken_; });
    if (turn_ == turn) throw std::runtime_error("another rank has left");
    return shown_;  // not the next turn's, which this rank has not come to
  }

  GpuLibrary::Exchange exchange_of(int rank) {
    return [this, rank](const std::string& own) { return exchange(rank, own); };
  }

  /// Returns once all ranks have come here.
  void come(int rank) { exchange(rank, ""); }

  /// body(rank) on a thread each; what each threw, or "".
  template <class Body>
  std::vector<std::string> errors_of(Body body) {
    std::vector<std::string> errors(words_.size());
    std::vector<std::thread> threads;
    for (int rank = 0; rank < world(); ++rank)
      threads.emplace_back([&, rank] {
        try {
          body(rank);
        } catch (const std::exception& error) {
          errors[static_cast<std::size_t>(rank)] = error.what();
          leave();
        }
      });
    for (std::thread& thread : threads) thread.join();
    return errors;
  }

  template <class Body>
  void run(Body body) {
    const std::vector<std::string> errors = errors_of(body);
    EXPECT_EQ(errors, std::vector<std::string>(words_.size()));
  }

 private:
  /// So that nobody waits for who does not come.
  void leave() {
    const std::lock_guard lock(mutex_);
    is_broken_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> words_, shown_;
  std::size_t arrived_ = 0;
  std::uint64_t turn_ = 0;
  bool is_broken_ = false;
};

}  // namespace ringtree::testing
