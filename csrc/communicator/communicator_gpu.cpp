// The communicator's calls on a GPU. They share the order, the sequence numbers and the boards with those on
// the host.
#include "communicator/communicator.h"
#include "communicator/fault.h"
#include "core/errors.h"

namespace ringtree {
namespace {

/// 0, and cudaStreamLegacy: the default stream of a process by its two names.
constexpr GpuStream kSharedStreams = 1;

}  // namespace

void Communicator::launch(const Request& request, GpuPlace place) {
  check_usable(request.name());
  check(request, rank_, world_);
  check_place(request, place);
  check_has_kernel(request);
  std::unique_lock order(order_);
  wanted_.wait(order, [this] { return queue_.empty(); });
  check_usable(request.name());
  if (!gpu_) open_gpu(place.device);
  // Kernels compare calls on their way. Those of the host that are still to be compared come first.
  if (settled_ != sequence_) {
    execute_between_calls(Request{Collective::barrier});
  }
  std::vector<Injection::Fault> middle;
  if (injection_) {  // only now, when the call's number is known
    Injection::Fate fate = injection_->call(request.name());
    if (fate.is_dropped) return;
    middle = std::move(fate.middle);
  }

  const std::size_t bytes = request.priced_bytes(world_);
  const auto [algorithm, fallback] =
      gpu_->choose(request.collective, request.algorithm, bytes, request.is_even());
  Request resolved = request;
  resolved.algorithm = catalogue()[fallback < 0 ? algorithm : static_cast<std::size_t>(fallback)].name;
  Prepared call = prepare(resolved);
  if (fallback >= 0) call.header.algorithm |= CallHeader::kOrZeroCopy;
  call.header.algorithm |= CallHeader::kOnGpu;
  const std::string where = describe(call.header);
  Board& board = segment_->board(rank_);
  board.enter(call.header, digest_of(call.header), bytes, call.line);
  if (has_fault(*segment_)) throw_fault(*segment_, rank_, where);

  GpuTask task;
  task.algorithm = algorithm;
  task.fallback = fallback;
  task.timeout_seconds = call.timeout_seconds > 0 ? call.timeout_seconds : timeout_seconds_.load();
  task.op = call.op;
  task.factor = call.factor;
  try {
    gpu_->launch(call.header, call.task, task, call.unit(), place.stream);
  } catch (const Error& error) {  // the others wait on their GPUs for a kernel that does not come
    raise_fault(*segment_, error.kind(), {rank_}, where + ": " + error.what() + ".");
    throw_fault(*segment_, rank_, where);
  }
  settled_ = call.header.sequence;
  board.leave(call.header, bytes, algorithm);
  for (const Injection::Fault& fault : middle) Injection::strike(fault);
}

/// Fills in the device. Throws InvalidArgument.
void Communicator::check_place(const Request& request, GpuPlace& place) const {
  const auto refuse = [&](const std::string& why) {
    throw InvalidArgument(refusal(rank_, request.name(), why));
  };
  try {
    gpu_library();
  } catch (const TransportError& error) {
    throw TransportError(refusal(rank_, request.name(), error.what()));
  }
  if (place.device < 0) {
    const void* const one = request.out != nullptr ? request.out : request.in;
    const void* const other = request.in != nullptr ? request.in : one;
    place.device = one == nullptr && gpu_ ? gpu_->device() : gpu_library().device_of(one);
    const int device = other == one ? place.device : gpu_library().device_of(other);
    if (place.device < 0 || device < 0) refuse("its arrays are not in the memory of a GPU");
    if (device != place.device)
      refuse("its arrays are on GPU " + std::to_string(device) + " and on GPU " +
             std::to_string(place.device));
  }
  const auto is_misaligned = [&](const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory) % size_of(request.dtype) != 0;
  };
  if (is_misaligned(request.in) || is_misaligned(request.out))
    refuse(std::string("an array does not lie at a multiple of ") + name_of(request.dtype) +
           "'s size: pass a copy");
  if (gpu_ && place.device != gpu_->device())
    refuse("its arrays are on GPU " + std::to_string(place.device) +
           ", but this communicator has begun on GPU " + std::to_string(gpu_->device()));
  if (transport_ == "threads" && world_ > 1 && place.stream <= kSharedStreams)
    refuse(
        "ranks that are threads of one process need a stream each, and this one is the process's default "
        "stream, in which one rank's kernel would wait behind another's: take "
        "rt.run_local(..., device=\"cuda\"), or a stream of your own");
}

/// Throws InvalidArgument.
void Communicator::check_has_kernel(const Request& request) const {
  if (request.algorithm != "auto" &&
      catalogue()[find_algorithm(request.collective, request.algorithm)].host_only)
    throw InvalidArgument(
        refusal(rank_, request.name(), "the algorithm '" + request.algorithm + "' has no kernel for GPUs"));
}

void Communicator::synchronize() {
  const std::shared_lock mapped(mapped_);
  check_usable("synchronize");
  if (gpu_) gpu_->wait(timeout_seconds_.load());
}

void Communicator::throw_if_failed() const {
  const std::shared_lock mapped(mapped_);
  if (!closed_ && has_fault(*segment_)) throw_fault(*segment_, rank_, "wait");
}

/// Under `order_`.
void Communicator::open_gpu(int device) {
  const auto exchange = [this](const std::string& own) { return exchange_in_call(own); };
  gpu_ = std::make_unique<GpuCalls>(*segment_, *liveness_, transport_, device, rank_, timeout_seconds_,
                                    exchange);
  for (std::size_t collective = 0; collective < kCollectives; ++collective) {
    const auto which = static_cast<Collective>(collective);
    if (!gpu_rules_[collective].empty()) gpu_->prefer(which, gpu_rules_[collective]);
    if (choice_.is_forced(which)) gpu_->force(which, choice_.choose(which, 1, true));
  }
}

std::string Communicator::chosen_on_gpu(const std::string& collective, std::size_t bytes) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  if (!gpu_) throw InvalidArgument(refusal(rank_, "chosen", "no call has been made on a GPU yet"));
  return catalogue()[gpu_->choose(which, "auto", bytes, true).first].name;
}

/// From the next call on that opens the GPU, or, if one has, from now on.
void Communicator::prefer_on_gpu(const std::string& collective, const NamedRules& rules) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  gpu_rules_[static_cast<std::size_t>(which)] = find_rules(which, rules);
  if (gpu_ && !choice_.is_forced(which)) gpu_->prefer(which, gpu_rules_[static_cast<std::size_t>(which)]);
}

/// Under `order_`: a call that the user has not made. It has its number all the same.
void Communicator::execute_between_calls(const Request& request) {
  if (injection_) injection_->pass_over();
  Prepared call = prepare(request);
  execute(call, spins_);
}

/// Under `order_`: gives one string, of a size that all have agreed on, to every rank.
std::vector<std::string> Communicator::exchange_in_call(const std::string& own) {
  std::string all(own.size() * static_cast<std::size_t>(world_), '\0');
  execute_between_calls({Collective::all_gather, own.data(), all.data(), own.size(), DType::uint8});
  std::vector<std::string> parts;
  parts.reserve(static_cast<std::size_t>(world_));
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(world_); ++rank)
    parts.push_back(all.substr(rank * own.size(), own.size()));
  return parts;
}

}  // namespace ringtree
