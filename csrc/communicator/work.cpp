#include "communicator/work.h"

#include <algorithm>
#include <chrono>

#include "communicator/fault.h"
#include "communicator/patience.h"
#include "core/errors.h"

namespace ringtree {

void Work::wait(std::optional<double> seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::duration<double> kBetweenInterruptChecks(0.02);
  const Clock::time_point started = Clock::now();

  std::unique_lock lock(mutex_);
  const auto patience = seconds ? std::min(kBetweenInterruptChecks, std::chrono::duration<double>(*seconds))
                                : kBetweenInterruptChecks;
  while (!finished_.wait_for(lock, patience, [this] { return done_; })) {
    if (seconds && std::chrono::duration<double>(Clock::now() - started).count() >= *seconds)
      throw Timeout(description_ + " was not finished within the " + format_seconds(*seconds) +
                    " that wait() was given. It goes on, and the communicator stays usable: wait again, or "
                    "close it.");
    lock.unlock();
    if (interrupted()) throw Interrupted();
    lock.lock();
  }
  if (error_) std::rethrow_exception(error_);
}

bool Work::done() {
  const std::lock_guard lock(mutex_);
  return done_;
}

void Work::then(std::function<void(const std::exception_ptr&)> what) {
  {
    const std::lock_guard lock(mutex_);
    if (!done_) return void(then_ = std::move(what));
  }
  what(error_);
}

void Work::finish(std::exception_ptr error) {
  std::shared_ptr<void> released;  // let go of outside the lock: it may need the interpreter's
  std::function<void(const std::exception_ptr&)> then;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    released = std::move(keep_);
    then = std::move(then_);
  }
  finished_.notify_all();
  if (then) then(error_);
}

}  // namespace ringtree
