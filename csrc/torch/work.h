// One call as torch.distributed sees it, finished or under way.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

namespace ringtree {

class TorchWork final : public c10d::Work {
 public:
  using Tensors = std::vector<at::Tensor>;

  /// `title` is the profiler's, with `inputs`; `outputs` is what result() and the future give.
  TorchWork(int rank, c10d::OpType type, const char* title, std::uint64_t sequence, const Tensors& inputs,
            Tensors outputs);

  /// Throws DistBackendError if the call fails, and also if it is not finished after `timeout`: then it goes
  /// on. KeyboardInterrupt ends the wait.
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;
  void synchronize() override { wait(); }
  void abort() override {}

  Tensors result() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  std::uint64_t getSequencenumber() const override { return sequence_; }
  int sourceRank() const override;
  /// Milliseconds from the call to its end.
  float getDuration() const override;

  /// The call is over: with `error`, translated already, or without. Callbacks of the future run here.
  void complete(const std::exception_ptr& error);

  void set_source(int rank) { source_ = rank; }
  /// Before the call begins: `help` may bring its end closer, in a thread that is about to wait for it.
  void before_waiting(std::function<void(TorchWork&)> help) { help_ = std::move(help); }
  /// Before the call begins: `what` runs when it is over, whoever waits may have gone on.
  void on_completion(std::function<void(const TorchWork&)> what) { on_completion_ = std::move(what); }

  using Clock = std::chrono::steady_clock;
  Clock::time_point began() const { return began_; }
  Clock::time_point ended() const { return ended_; }

 private:
  c10::intrusive_ptr<c10::ivalue::Future> make_future() const;
  void settle(c10::ivalue::Future& future) const;

  std::uint64_t sequence_;
  Tensors outputs_;
  int source_ = -1;
  Clock::time_point began_, ended_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
  std::function<void(TorchWork&)> help_;
  std::function<void(const TorchWork&)> on_completion_;
};

}  // namespace ringtree
