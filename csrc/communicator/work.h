// A call that may still be under way.
#pragma once

#include <condition_variable>
#include <exception>
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

  void finish(std::exception_ptr error);

 private:
  std::string description_;
  std::shared_ptr<void> keep_;
  std::mutex mutex_;
  std::condition_variable finished_;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace ringtree
