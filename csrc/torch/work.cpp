#include "torch/work.h"

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include <algorithm>
#include <string>

#include "communicator/patience.h"
#include "core/errors.h"
#include "torch/errors.h"

namespace ringtree {

TorchWork::TorchWork(int rank, c10d::OpType type, const char* title, std::uint64_t sequence,
                     const Tensors& inputs, Tensors outputs)
    : c10d::Work(rank, type, title, inputs),
      sequence_(sequence),
      outputs_(std::move(outputs)),
      began_(Clock::now()) {}

bool TorchWork::wait(std::chrono::milliseconds timeout) {
  constexpr auto kBetweenInterruptChecks = std::chrono::milliseconds(20);
  const bool bounded = timeout != kNoTimeout;
  const Clock::time_point deadline = Clock::now() + timeout;
  if (help_ && !isCompleted()) help_(*this);
  std::unique_lock lock(mutex_);
  while (!completed_) {
    auto patience = kBetweenInterruptChecks;
    if (bounded)
      patience = std::min(patience, std::chrono::duration_cast<std::chrono::milliseconds>(
                                        deadline - Clock::now() + std::chrono::milliseconds(1)));
    if (cv_.wait_for(lock, patience, [this] { return completed_; })) break;
    lock.unlock();
    translated([&] {
      if (interrupted()) throw Interrupted();
      if (bounded && Clock::now() >= deadline)
        throw Timeout("rank " + std::to_string(rank_) + ", " + c10d::opTypeToString(opType_) + " #" +
                      std::to_string(sequence_) + " was not finished within the " +
                      std::to_string(timeout.count()) +
                      " ms that wait() was given. It goes on, and the group stays usable: wait again, or "
                      "destroy it.");
    });
    lock.lock();
  }
  if (exception_) std::rethrow_exception(exception_);
  return true;
}

TorchWork::Tensors TorchWork::result() { return outputs_; }

int TorchWork::sourceRank() const {
  TORCH_CHECK(source_ >= 0, "sourceRank: this was not a recv from any rank, or it is not finished");
  return source_;
}

float TorchWork::getDuration() const {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK(completed_, "getDuration: the call is not finished");
  return std::chrono::duration<float, std::milli>(ended_ - began_).count();
}

c10::intrusive_ptr<c10::ivalue::Future> TorchWork::getFuture() {
  bool is_over = false;
  {
    const std::lock_guard lock(mutex_);
    if (future_) return future_;
    future_ = make_future();
    is_over = completed_;
  }
  if (is_over) settle(*future_);
  return future_;
}

void TorchWork::complete(const std::exception_ptr& error) {
  ended_ = Clock::now();
  c10::intrusive_ptr<c10::ivalue::Future> future;
  {
    const std::lock_guard lock(mutex_);
    completed_ = true;
    exception_ = error;
    future = future_;  // made later, it is settled by who asks for it
    if (recordFunctionEndCallback_) recordFunctionEndCallback_();
    recordFunctionEndCallback_ = nullptr;
  }
  if (future) settle(*future);
  cv_.notify_all();
  if (on_completion_) on_completion_(*this);
}

c10::intrusive_ptr<c10::ivalue::Future> TorchWork::make_future() const {
  return c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
}

void TorchWork::settle(c10::ivalue::Future& future) const {
  if (exception_)
    future.setError(exception_);
  else
    future.markCompleted(c10::IValue(outputs_));
}

}  // namespace ringtree
