// One call on a GPU as torch.distributed sees it: enqueued on a stream, and over for the host as soon as
// that.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <functional>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

namespace ringtree {

class StreamWork final : public c10d::Work {
 public:
  using Tensors = std::vector<at::Tensor>;

  /// `check` throws what has gone wrong with the group, if something has.
  StreamWork(int rank, c10d::OpType type, const char* title, std::uint64_t sequence, const Tensors& inputs,
             Tensors outputs, c10::Device device, std::function<void()> check);

  /// The call is enqueued on `stream`, and nothing behind it yet. The future is complete then: who adds a
  /// callback finds its stream behind the call.
  void enqueued(const c10::Stream& stream);

  /// Makes the current stream wait for the call; the host waits for a barrier alone. Throws what has gone
  /// wrong so far.
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;
  void synchronize() override;
  void abort() override {}

  c10::Device device() const { return device_; }
  bool isCompleted() override;
  bool isSuccess() const override { return true; }
  Tensors result() override { return outputs_; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  std::uint64_t getSequencenumber() const override { return sequence_; }

 private:
  std::uint64_t sequence_;
  Tensors outputs_;
  c10::Device device_;
  std::function<void()> check_;
  c10::Event end_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

}  // namespace ringtree
