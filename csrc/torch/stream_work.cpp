#include "torch/stream_work.h"

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace ringtree {

StreamWork::StreamWork(int rank, c10d::OpType type, const char* title, std::uint64_t sequence,
                       const Tensors& inputs, Tensors outputs, c10::Device device,
                       std::function<void()> check)
    : c10d::Work(rank, type, title, inputs),
      sequence_(sequence),
      outputs_(std::move(outputs)),
      device_(device),
      check_(std::move(check)),
      end_(device.type()),
      future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()),
                                                       std::vector<c10::Device>{device})) {}

void StreamWork::enqueued(const c10::Stream& stream) {
  const c10::StreamGuard here(stream);
  end_.record(stream);
  future_->markCompleted(c10::IValue(outputs_));
  if (recordFunctionEndCallback_) recordFunctionEndCallback_();
  recordFunctionEndCallback_ = nullptr;
}

bool StreamWork::wait(std::chrono::milliseconds /*timeout*/) {
  synchronize();
  if (retrieveOpType() == c10d::OpType::BARRIER) end_.synchronize();
  check_();
  return true;
}

void StreamWork::synchronize() { end_.block(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_)); }

bool StreamWork::isCompleted() { return end_.query(); }

}  // namespace ringtree
