// A call that may still be under way.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace ringtree {

class Work {
 public:
  /// `keep` stays alive until the call is finished: the buffers' owners.
  Work(std::string description, std::shared_ptr<void> keep)
      : description_(std::move(description)), keep_(std::move(keep)) {}

  /// Returns once the call is finished; throws what it threw. After `seconds` without an end throws Timeout,
  /// and the call goes on.
  void wait(std::optional<double> seconds = std::nullopt);

  bool done();

  /// Calls `what` with what the call threw, or with nothing, once it is finished: in the thread that finishes
  /// it, or at once. Once for each Work.
  void then(std::function<void(const std::exception_ptr&)> what);

  void finish(std::exception_ptr error);

 private:
  std::string description_;
  std::shared_ptr<void> keep_;
  std::mutex mutex_;
  std::condition_variable finished_;
  std::function<void(const std::exception_ptr&)> then_;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace ringtree
