// What the collectives of c10d are in the core's terms.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "core/errors.h"
#include "torch/backend.h"
#include "torch/errors.h"

namespace ringtree {
namespace {

using Counts = std::vector<std::size_t>;

/// c10d's lists of tensors come from times when a process drove several devices. They have one entry.
template <class Entry>
Entry& the_only(std::vector<Entry>& list, const std::string& where) {
  if (list.size() != 1)
    throw InvalidArgument(where + ": takes one tensor a rank, not " + std::to_string(list.size()));
  return list.front();
}

void check_ranks(const Tensors& list, int size, const std::string& where) {
  if (list.size() != static_cast<std::size_t>(size))
    throw InvalidArgument(where + ": takes a tensor for each of the " + std::to_string(size) +
                          " ranks, not " + std::to_string(list.size()));
}

/// Elements of each tensor in the core's terms; one share if all are equal.
void set_shares(Request& request, Counts Request::* counts, const Tensors& list, const Elements& elements) {
  Counts each;
  for (const at::Tensor& tensor : list) each.push_back(elements.of(tensor));
  if (std::all_of(each.begin(), each.end(), [&](std::size_t count) { return count == each.front(); }))
    request.count = each.front();
  else
    request.*counts = std::move(each);
}

void check_size(std::int64_t has, std::int64_t needed, const char* which, const std::string& where) {
  if (has != needed)
    throw InvalidArgument(where + ": the " + which + " tensor must have " + std::to_string(needed) +
                          " elements, not " + std::to_string(has));
}

template <class Options>
Request request_of(Collective collective, const Elements& elements, const Options& options) {
  Request request{collective};
  request.dtype = elements.dtype;
  if (options.timeout != c10d::kUnsetTimeout)
    request.timeout_seconds = std::chrono::duration<double>(options.timeout).count();
  return request;
}

template <class Options>
Request reduction_of(Collective collective, const at::Tensor& tensor, const Options& options,
                     const std::string& where) {
  Request request = request_of(collective, reduced(tensor, options.reduceOp, where), options);
  const CoreOp core = core_op(options.reduceOp, where);
  request.op = core.op;
  request.factor = core.factor;
  return request;
}

Tensors joined(const Tensors& inputs, const Tensors& outputs) {
  Tensors all = inputs;
  all.insert(all.end(), outputs.begin(), outputs.end());
  return all;
}

/// Elements that go to, or come from, each rank; equal shares where nobody says otherwise.
Counts shares_of(const std::vector<std::int64_t>& splits, const at::Tensor& tensor, int size,
                 const Elements& elements, const char* which, const std::string& where) {
  const std::int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
  if (splits.empty()) {
    if (rows % size != 0)
      throw InvalidArgument(where + ": the first dimension of the " + which + " tensor, " +
                            std::to_string(rows) + ", cannot be divided among " + std::to_string(size) +
                            " ranks");
    return Counts(static_cast<std::size_t>(size), elements.of(tensor) / static_cast<std::size_t>(size));
  }
  if (splits.size() != static_cast<std::size_t>(size) ||
      std::accumulate(splits.begin(), splits.end(), std::int64_t{0}) != rows)
    throw InvalidArgument(where + ": the " + which + " split sizes must be " + std::to_string(size) +
                          " numbers that add up to the first dimension, " + std::to_string(rows));
  const std::int64_t row = rows == 0 ? 0 : tensor.numel() / rows;
  Counts counts;
  for (const std::int64_t split : splits) counts.push_back(elements.of(split * row));
  return counts;
}

}  // namespace

TorchBackend::Result TorchBackend::broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) {
  return translated([&] {
    const std::string here = where("broadcast");
    const at::Tensor& tensor = the_only(tensors, here);
    check_tensors(tensors, here);
    const Elements elements = moved(tensor);
    Call call{c10d::OpType::BROADCAST, "broadcast", request_of(Collective::broadcast, elements, options),
              options.asyncOp,         tensors,     tensors};
    call.request.in = call.request.out = call.staging.in_place(tensor).data_ptr();
    call.request.count = elements.of(tensor);
    call.request.root = static_cast<int>(options.rootRank);
    return start(std::move(call));
  });
}

TorchBackend::Call TorchBackend::all_reduce_call(const at::Tensor& tensor,
                                                 const c10d::AllreduceOptions& options) {
  const std::string here = where("all_reduce");
  check_tensors({tensor}, here);
  Call call{
      c10d::OpType::ALLREDUCE, "all_reduce", reduction_of(Collective::all_reduce, tensor, options, here),
      options.asyncOp,         {tensor},     {tensor}};
  call.request.in = call.request.out = call.staging.in_place(tensor).data_ptr();
  call.request.count = reduced(tensor, options.reduceOp, here).of(tensor);
  return call;
}

TorchBackend::Result TorchBackend::allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) {
  return translated([&] {
    const at::Tensor& tensor = the_only(tensors, where("all_reduce"));
    if (tensor.is_sparse()) return allreduce_sparse(tensors, options);
    return start(all_reduce_call(tensor, options));
  });
}

TorchBackend::Result TorchBackend::allreduce_coalesced(Tensors& tensors,
                                                       const c10d::AllreduceCoalescedOptions& options) {
  return translated([&] {
    std::vector<Call> calls;
    for (const at::Tensor& tensor : tensors) calls.push_back(all_reduce_call(tensor, options));
    return start_together(c10d::OpType::ALLREDUCE_COALESCED, "all_reduce", std::move(calls));
  });
}

/// Gathers everybody's indices and values, and sums them up. Blocks: sizes have to be known first.
TorchBackend::Result TorchBackend::allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) {
  return translated([&] {
    const std::string here = where("all_reduce (sparse)");
    const at::NoGradGuard no_grad;
    at::Tensor& tensor = the_only(tensors, here);
    if (options.reduceOp.op_ != c10d::ReduceOp::SUM)
      throw InvalidArgument(here + ": sparse tensors can be summed, nothing else");
    const at::Tensor own = tensor.coalesce();
    check_tensors({own._values()}, here);
    check_on_cpu({own._values()}, here);

    c10d::AllgatherOptions gather;
    gather.asyncOp = false;
    at::Tensor sizes = at::empty({size_}, at::kLong), size = at::full({1}, own._nnz(), at::kLong);
    start(all_gather_call(sizes, size, gather))->wait();
    Tensors indices, values;
    const auto* numbers = sizes.const_data_ptr<std::int64_t>();
    for (int peer = 0; peer < size_; ++peer) {
      std::vector<std::int64_t> shape = own._values().sizes().vec();
      shape[0] = numbers[peer];
      indices.push_back(at::empty({own.sparse_dim(), numbers[peer]}, at::kLong));
      values.push_back(at::empty(shape, own._values().options()));
    }
    start(all_gather_call(indices, own._indices(), gather))->wait();
    start(all_gather_call(values, own._values(), gather))->wait();
    const at::Tensor sum =
        at::_sparse_coo_tensor_unsafe(at::cat(indices, 1), at::cat(values), own.sizes()).coalesce();
    tensor.copy_(sum);

    auto work = c10::make_intrusive<TorchWork>(rank_, c10d::OpType::_ALLREDUCE_SPARSE, title("all_reduce"),
                                               sequence_, tensors, tensors);
    work->complete(nullptr);
    return Result(work);
  });
}

TorchBackend::Result TorchBackend::reduce(Tensors& tensors, const c10d::ReduceOptions& options) {
  return translated([&] {
    const std::string here = where("reduce");
    const at::Tensor& tensor = the_only(tensors, here);
    check_tensors(tensors, here);
    Call call{c10d::OpType::REDUCE, "reduce", reduction_of(Collective::reduce, tensor, options, here),
              options.asyncOp,      tensors,  tensors};
    const at::Tensor flat =
        options.rootRank == rank_ ? call.staging.in_place(tensor) : call.staging.input(tensor);
    call.request.in = call.request.out = flat.data_ptr();
    call.request.count = reduced(tensor, options.reduceOp, here).of(tensor);
    call.request.root = static_cast<int>(options.rootRank);
    return start(std::move(call));
  });
}

TorchBackend::Call TorchBackend::all_gather_call(const at::Tensor& output, const at::Tensor& input,
                                                 const c10d::AllgatherOptions& options) {
  const std::string here = where("all_gather");
  check_tensors({input, output}, here);
  check_size(output.numel(), input.numel() * size_, "output", here);
  const Elements elements = moved(input);
  Call call{c10d::OpType::_ALLGATHER_BASE,
            "_all_gather_base",
            request_of(Collective::all_gather, elements, options),
            options.asyncOp,
            {input},
            {output}};
  call.request.in = call.staging.input(input).const_data_ptr();
  call.request.out = call.staging.output(output).data_ptr();
  call.request.count = elements.of(input);
  return call;
}

TorchBackend::Call TorchBackend::all_gather_call(const Tensors& outputs, const at::Tensor& input,
                                                 const c10d::AllgatherOptions& options) {
  const std::string here = where("all_gather");
  check_ranks(outputs, size_, here);
  check_tensors(joined({input}, outputs), here);
  check_size(input.numel(), outputs[static_cast<std::size_t>(rank_)].numel(), "input", here);
  const Elements elements = moved(input);
  Call call{c10d::OpType::ALLGATHER, "all_gather", request_of(Collective::all_gather, elements, options),
            options.asyncOp,         {input},      outputs};
  call.request.in = call.staging.input(input).const_data_ptr();
  call.request.out = call.staging.outputs(outputs).data_ptr();
  set_shares(call.request, &Request::out_counts, outputs, elements);
  return call;
}

TorchBackend::Result TorchBackend::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                             const c10d::AllgatherOptions& options) {
  return translated([&] {
    const std::string here = where("all_gather");
    return start(all_gather_call(the_only(outputs, here), the_only(inputs, here), options));
  });
}

TorchBackend::Result TorchBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                   const c10d::AllgatherOptions& options) {
  return translated([&] { return start(all_gather_call(output, input, options)); });
}

TorchBackend::Result TorchBackend::allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                                                       const c10d::AllgatherOptions& options) {
  return translated([&] {
    // outputs[peer][i] is what comes from `peer` in place of inputs[i].
    std::vector<Call> calls;
    calls.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensors from_each;
      for (const Tensors& list : outputs) {
        if (list.size() != inputs.size())
          throw InvalidArgument(where("all_gather") + ": each list of outputs must be as long as the inputs");
        from_each.push_back(list[i]);
      }
      calls.push_back(all_gather_call(from_each, inputs[i], options));
    }
    return start_together(c10d::OpType::ALLGATHER_COALESCED, "all_gather", std::move(calls));
  });
}

TorchBackend::Result TorchBackend::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                   const c10d::AllgatherOptions& options) {
  return translated([&] {
    if (outputs.size() != inputs.size())
      throw InvalidArgument(where("all_gather") + ": there must be as many outputs as inputs");
    std::vector<Call> calls;
    calls.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      calls.push_back(all_gather_call(outputs[i], inputs[i], options));
    return start_together(c10d::OpType::COALESCED, "_all_gather_base", std::move(calls));
  });
}

TorchBackend::Result TorchBackend::gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                          const c10d::GatherOptions& options) {
  return translated([&] {
    const std::string here = where("gather");
    const at::Tensor& input = the_only(inputs, here);
    Tensors all = inputs;
    const bool is_root = options.rootRank == rank_;
    if (is_root) {
      check_ranks(the_only(outputs, here), size_, here);
      all = joined(inputs, outputs[0]);
      for (const at::Tensor& output : outputs[0]) check_size(output.numel(), input.numel(), "output", here);
    } else if (!outputs.empty() && !outputs[0].empty()) {
      throw InvalidArgument(here + ": only the root has outputs");
    }
    check_tensors(all, here);
    const Elements elements = moved(input);
    Call call{c10d::OpType::GATHER, "gather", request_of(Collective::gather, elements, options),
              options.asyncOp,      inputs,   is_root ? outputs[0] : Tensors()};
    call.request.in = call.staging.input(input).const_data_ptr();
    if (is_root) call.request.out = call.staging.outputs(outputs[0]).data_ptr();
    call.request.count = elements.of(input);
    call.request.root = static_cast<int>(options.rootRank);
    return start(std::move(call));
  });
}

TorchBackend::Result TorchBackend::scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                           const c10d::ScatterOptions& options) {
  return translated([&] {
    const std::string here = where("scatter");
    const at::Tensor& output = the_only(outputs, here);
    Tensors all = outputs;
    const bool is_root = options.rootRank == rank_;
    if (is_root) {
      check_ranks(the_only(inputs, here), size_, here);
      all = joined(outputs, inputs[0]);
      for (const at::Tensor& input : inputs[0]) check_size(input.numel(), output.numel(), "input", here);
    } else if (!inputs.empty() && !inputs[0].empty()) {
      throw InvalidArgument(here + ": only the root has inputs");
    }
    check_tensors(all, here);
    const Elements elements = moved(output);
    Call call{c10d::OpType::SCATTER,
              "scatter",
              request_of(Collective::scatter, elements, options),
              options.asyncOp,
              is_root ? inputs[0] : Tensors(),
              outputs};
    if (is_root) call.request.in = call.staging.inputs(inputs[0]).const_data_ptr();
    call.request.out = call.staging.output(output).data_ptr();
    call.request.count = elements.of(output);
    call.request.root = static_cast<int>(options.rootRank);
    return start(std::move(call));
  });
}

TorchBackend::Result TorchBackend::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                                  const c10d::ReduceScatterOptions& options) {
  return translated([&] {
    const std::string here = where("reduce_scatter");
    const at::Tensor& output = the_only(outputs, here);
    const Tensors& list = the_only(inputs, here);
    check_ranks(list, size_, here);
    check_tensors(joined(outputs, list), here);
    check_size(output.numel(), list[static_cast<std::size_t>(rank_)].numel(), "output", here);
    Call call{c10d::OpType::REDUCE_SCATTER,
              "reduce_scatter",
              reduction_of(Collective::reduce_scatter, output, options, here),
              options.asyncOp,
              list,
              outputs};
    call.request.in = call.staging.inputs(list).const_data_ptr();
    call.request.out = call.staging.output(output).data_ptr();
    set_shares(call.request, &Request::in_counts, list, reduced(output, options.reduceOp, here));
    return start(std::move(call));
  });
}

TorchBackend::Call TorchBackend::reduce_scatter_call(const at::Tensor& output, const at::Tensor& input,
                                                     const c10d::ReduceScatterOptions& options) {
  const std::string here = where("reduce_scatter");
  check_tensors({input, output}, here);
  check_size(input.numel(), output.numel() * size_, "input", here);
  Call call{c10d::OpType::_REDUCE_SCATTER_BASE,
            "_reduce_scatter_base",
            reduction_of(Collective::reduce_scatter, output, options, here),
            options.asyncOp,
            {input},
            {output}};
  call.request.in = call.staging.input(input).const_data_ptr();
  call.request.out = call.staging.output(output).data_ptr();
  call.request.count = reduced(output, options.reduceOp, here).of(output);
  return call;
}

TorchBackend::Result TorchBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                        const c10d::ReduceScatterOptions& options) {
  return translated([&] { return start(reduce_scatter_call(output, input, options)); });
}

TorchBackend::Result TorchBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& options) {
  return translated([&] {
    if (outputs.size() != inputs.size())
      throw InvalidArgument(where("reduce_scatter") + ": there must be as many outputs as inputs");
    std::vector<Call> calls;
    calls.reserve(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      calls.push_back(reduce_scatter_call(outputs[i], inputs[i], options));
    return start_together(c10d::OpType::COALESCED, "_reduce_scatter_base", std::move(calls));
  });
}

TorchBackend::Result TorchBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                 std::vector<std::int64_t>& output_splits,
                                                 std::vector<std::int64_t>& input_splits,
                                                 const c10d::AllToAllOptions& options) {
  return translated([&] {
    const std::string here = where("all_to_all");
    check_tensors({input, output}, here);
    const Elements elements = moved(input);
    Call call{c10d::OpType::ALLTOALL_BASE,
              "all_to_all",
              request_of(Collective::all_to_all, elements, options),
              options.asyncOp,
              {input},
              {output}};
    call.request.in = call.staging.input(input).const_data_ptr();
    call.request.out = call.staging.output(output).data_ptr();
    const Counts in = shares_of(input_splits, input, size_, elements, "input", here);
    const Counts out = shares_of(output_splits, output, size_, elements, "output", here);
    if (input_splits.empty() && output_splits.empty()) {
      check_size(output.numel(), input.numel(), "output", here);
      call.request.count = in.front();
    } else {
      call.request.in_counts = in;
      call.request.out_counts = out;
    }
    return start(std::move(call));
  });
}

TorchBackend::Result TorchBackend::alltoall(Tensors& outputs, Tensors& inputs,
                                            const c10d::AllToAllOptions& options) {
  return translated([&] {
    const std::string here = where("all_to_all");
    check_ranks(inputs, size_, here);
    check_ranks(outputs, size_, here);
    check_tensors(joined(inputs, outputs), here);
    const Elements elements = moved(inputs.front());
    Call call{c10d::OpType::ALLTOALL, "all_to_all", request_of(Collective::all_to_all, elements, options),
              options.asyncOp,        inputs,       outputs};
    call.request.in = call.staging.inputs(inputs).const_data_ptr();
    call.request.out = call.staging.outputs(outputs).data_ptr();
    for (const at::Tensor& tensor : inputs) call.request.in_counts.push_back(elements.of(tensor));
    for (const at::Tensor& tensor : outputs) call.request.out_counts.push_back(elements.of(tensor));
    return start(std::move(call));
  });
}

TorchBackend::Result TorchBackend::barrier(const c10d::BarrierOptions& options) {
  return translated([&] {
    const Call call{
        c10d::OpType::BARRIER, "barrier", request_of(Collective::barrier, {DType::uint8, 1}, options),
        options.asyncOp,       {},        {}};
    // c10d does not say for which device. A program on GPUs means what its stream holds, too, and whether
    // this group has used them all ranks know.
    const int gpu = communicator_->gpu_device();
    if (gpu < 0) return start(call);
    check_open("barrier");
    const Result work = start_on_gpu(call, {c10::kCUDA, static_cast<c10::DeviceIndex>(gpu)});
    if (!call.async) synchronize_gpu();
    return work;
  });
}

TorchBackend::Result TorchBackend::start_message(c10d::OpType type, Tensors& tensors, int peer, int tag) {
  return translated([&] {
    const bool outgoing = type == c10d::OpType::SEND;
    const std::string here = where(outgoing ? "send" : "recv");
    const at::Tensor& tensor = the_only(tensors, here);
    check_tensors(tensors, here);
    check_open(outgoing ? "send" : "recv");
    if (tag < 0) throw InvalidArgument(here + ": the tag must be 0 or more, not " + std::to_string(tag));
    if (type != c10d::OpType::RECVANYSOURCE && (peer < 0 || peer >= size_ || peer == rank_))
      throw InvalidArgument(here + ": the peer must be another rank of this group of " +
                            std::to_string(size_) + ", not " + std::to_string(peer));
    if (tensor.is_cuda()) return start_message_on_gpu(type, tensor, peer);
    auto work = track(c10::make_intrusive<TorchWork>(rank_, type,
                                                     title(outgoing                     ? "send"
                                                           : type == c10d::OpType::RECV ? "recv"
                                                                                        : "recvAnySource"),
                                                     sequence_, tensors, tensors));
    work->before_waiting([this](TorchWork& waiting) {
      communicator_->move_for_a_while([&] { return waiting.isCompleted(); });
    });
    auto staging = std::make_shared<Staging>();
    const at::Tensor flat = outgoing ? staging->input(tensor) : staging->output(tensor);
    const auto done = [this, work, staging](const std::exception_ptr& error, int source) {
      if (!error) staging->finish();
      work->set_source(source);
      work->complete(error ? note(error) : nullptr);
    };
    auto* data = static_cast<std::byte*>(flat.data_ptr());
    if (outgoing)
      messages_->send(data, flat.nbytes(), peer, tag, done);
    else
      messages_->receive(data, flat.nbytes(), peer, tag, done);
    const std::lock_guard lock(mutex_);
    if (coalesces_) coalesced_.push_back(work);
    return Result(work);
  });
}

TorchBackend::Result TorchBackend::send(Tensors& tensors, int to, int tag) {
  return start_message(c10d::OpType::SEND, tensors, to, tag);
}

TorchBackend::Result TorchBackend::recv(Tensors& tensors, int from, int tag) {
  return start_message(c10d::OpType::RECV, tensors, from, tag);
}

TorchBackend::Result TorchBackend::recvAnysource(Tensors& tensors, int tag) {
  return start_message(c10d::OpType::RECVANYSOURCE, tensors, -1, tag);
}

}  // namespace ringtree
