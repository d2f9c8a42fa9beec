// The backend's calls on GPUs.
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

#include "torch/backend.h"
#include "torch/errors.h"
#include "torch/stream_work.h"

namespace ringtree {
namespace {

GpuPlace place_of(const c10::Stream& stream) {
  return {stream.device_index(), reinterpret_cast<GpuStream>(stream.native_handle())};
}

}  // namespace

/// A call that blocks is enqueued on the caller's stream. Others go to a stream of the group's own, so that
/// they overlap with what the caller enqueues next: they begin behind what it has enqueued so far, and
/// Work::wait() brings it behind them.
TorchBackend::Result TorchBackend::start_on_gpu(const Call& call, c10::Device device) {
  ++sequence_;
  bool async = call.async;
  {
    const std::lock_guard lock(mutex_);
    async = async || coalesces_;
  }
  const c10::Stream stream = async ? own_stream_behind_current(device)
                                   : c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  auto work = stream_work(device, call.type, call.name, call.inputs, call.outputs);
  noting([&] { communicator_->launch(call.request, place_of(stream)); });
  {
    const c10::StreamGuard here(stream);
    call.staging.finish();
  }
  // Their memory may not serve another purpose before the stream has come past the call.
  if (async) {
    for (const at::Tensor& tensor : call.inputs) tensor.record_stream(stream);
    for (const at::Tensor& tensor : call.outputs) tensor.record_stream(stream);
    call.staging.record_stream(stream);
  }
  work->enqueued(stream);
  const std::lock_guard lock(mutex_);
  if (coalesces_) coalesced_.push_back(work);
  return work;
}

/// Always on the group's stream. There are no tags: letters of one direction between two ranks arrive in the
/// order in which they are sent, as with NCCL.
TorchBackend::Result TorchBackend::start_message_on_gpu(c10d::OpType type, const at::Tensor& tensor,
                                                        int peer) {
  const bool outgoing = type == c10d::OpType::SEND;
  if (peer < 0)
    throw InvalidArgument(where("recv") + ": a tensor on a GPU is received from a rank that the call names");
  GpuMessage message{};
  message.tensor = tensor;
  const at::Tensor flat = outgoing ? message.staging.input(tensor) : message.staging.output(tensor);
  const Elements elements = moved(flat);
  message.letter = {outgoing, peer, static_cast<std::byte*>(flat.data_ptr()), elements.of(flat),
                    elements.dtype};
  message.work = stream_work(tensor.device(), type, outgoing ? "send" : "recv", {tensor}, {tensor});
  const Result work = message.work;
  {
    const std::lock_guard lock(mutex_);
    if (coalesces_) {
      coalesced_.push_back(work);
      coalesced_messages_.push_back(std::move(message));
      return work;
    }
  }
  exchange_on_gpu({std::move(message)});
  return work;
}

/// Side by side, whatever their order.
void TorchBackend::exchange_on_gpu(const std::vector<GpuMessage>& messages) {
  if (messages.empty()) return;
  const c10::Stream stream = own_stream_behind_current(messages.front().tensor.device());
  std::vector<Letter> letters;
  letters.reserve(messages.size());
  for (const GpuMessage& message : messages) letters.push_back(message.letter);
  noting([&] { communicator_->exchange_on_gpu(letters, place_of(stream)); });
  for (const GpuMessage& message : messages) {
    {
      const c10::StreamGuard here(stream);
      message.staging.finish();
    }
    message.tensor.record_stream(stream);
    message.staging.record_stream(stream);
    message.work->enqueued(stream);
  }
}

/// Several calls that have all been enqueued on the group's stream: over when the last one is.
TorchBackend::Result TorchBackend::all_on_gpu(c10::Device device, c10d::OpType type, const char* name,
                                              const Tensors& inputs, Tensors outputs) {
  auto work = stream_work(device, type, name, inputs, std::move(outputs));
  work->enqueued(own_stream(device));
  return work;
}

/// It keeps the group alive: who waits asks it what has gone wrong.
c10::intrusive_ptr<StreamWork> TorchBackend::stream_work(c10::Device device, c10d::OpType type,
                                                         const char* name, const Tensors& inputs,
                                                         Tensors outputs) {
  const auto self = c10::intrusive_ptr<TorchBackend>::reclaim_copy(this);
  return c10::make_intrusive<StreamWork>(rank_, type, title(name), sequence_, inputs, std::move(outputs),
                                         device, [self] { self->throw_if_failed(); });
}

c10::Stream TorchBackend::own_stream(c10::Device device) {
  const std::lock_guard lock(mutex_);
  if (!stream_) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, true);
  return *stream_;
}

/// The group's stream, once it waits for what the current one holds so far.
c10::Stream TorchBackend::own_stream_behind_current(c10::Device device) {
  const c10::Stream stream = own_stream(device);
  c10::Event ready(device.type());
  ready.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  ready.block(stream);
  return stream;
}

/// Until all calls are over.
void TorchBackend::synchronize_gpu() {
  noting([this] { communicator_->synchronize(); });
}

/// For those who wait: on a GPU a call that goes wrong has nobody to tell.
void TorchBackend::throw_if_failed() {
  noting([this] { communicator_->throw_if_failed(); });
}

}  // namespace ringtree
