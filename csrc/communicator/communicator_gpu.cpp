// The communicator's calls on a GPU. They share the order, the sequence numbers and the boards with those on
// the host.
#include <utility>

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
  check_place(request.name(), {request.out, request.in}, place);
  for (const void* const array : {request.in, static_cast<const void*>(request.out)})
    check_aligned(request.name(), array, request.dtype);
  check_has_kernel(request);
  const std::unique_lock order = enter_gpu(request.name(), place.device);
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
  } catch (const Error& error) {
    fail_on_gpu(error, where);
  }
  settled_ = call.header.sequence;
  board.leave(call.header, bytes, algorithm);
  for (const Injection::Fault& fault : middle) Injection::strike(fault);
}

void Communicator::exchange_on_gpu(const std::vector<Letter>& letters, GpuPlace place) {
  if (letters.empty()) return;
  const std::string name = letters.size() == 1 ? letters.front().name() : "send and recv";
  std::vector<const void*> arrays;
  for (const Letter& letter : letters) {
    check_peer(letter);
    check_aligned(letter.name(), letter.data, letter.dtype);
    arrays.push_back(letter.data);
  }
  check_place(name, arrays, place);
  if (letters.size() > kMaxGpuLetters)
    throw InvalidArgument(refusal(rank_, name,
                                  "one call may send and receive " + std::to_string(kMaxGpuLetters) +
                                      " messages on a GPU, not " + std::to_string(letters.size())));
  const std::unique_lock order = enter_gpu(name, place.device);
  std::vector<Injection::Fault> middle;
  if (injection_) {
    for (const Letter& letter : letters) {
      Injection::Fate fate = injection_->call(letter.name());
      if (fate.is_dropped) return;
      middle.insert(middle.end(), fate.middle.begin(), fate.middle.end());
    }
  }
  if (has_fault(*segment_)) throw_fault(*segment_, rank_, name);
  try {
    gpu_->exchange(letters, timeout_seconds_.load(), place.stream);
  } catch (const Error& error) {
    fail_on_gpu(error, name);
  }
  for (const Injection::Fault& fault : middle) Injection::strike(fault);
}

/// A call's turn, with the fabric open.
std::unique_lock<std::mutex> Communicator::enter_gpu(const std::string& call, int device) {
  std::unique_lock order(order_);
  wanted_.wait(order, [this] { return queue_.empty(); });
  check_usable(call);
  if (!gpu_) open_gpu(device);
  return order;
}

/// The others wait on their GPUs for a kernel that does not come.
void Communicator::fail_on_gpu(const Error& error, const std::string& where) {
  raise_fault(*segment_, error.kind(), {rank_}, where + ": " + error.what() + ".");
  throw_fault(*segment_, rank_, where);
}

/// Fills in the device. Throws InvalidArgument.
void Communicator::check_place(const std::string& call, const std::vector<const void*>& arrays,
                               GpuPlace& place) const {
  const auto refuse = [&](const std::string& why) { throw InvalidArgument(refusal(rank_, call, why)); };
  try {
    gpu_library();
  } catch (const TransportError& error) {
    throw TransportError(refusal(rank_, call, error.what()));
  }
  const bool is_known = place.device >= 0;
  for (const void* const array : arrays) {
    if (is_known || array == nullptr) continue;
    const int device = gpu_library().device_of(array);
    if (device < 0) refuse("its arrays are not in the memory of a GPU");
    if (place.device < 0) place.device = device;
    if (device != place.device)
      refuse("its arrays are on GPU " + std::to_string(device) + " and on GPU " +
             std::to_string(place.device));
  }
  if (place.device < 0) place.device = gpu_ ? gpu_->device() : gpu_library().device_of(nullptr);
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
void Communicator::check_aligned(const std::string& call, const void* array, DType dtype) const {
  if (reinterpret_cast<std::uintptr_t>(array) % size_of(dtype) != 0)
    throw InvalidArgument(refusal(
        rank_, call,
        std::string("an array does not lie at a multiple of ") + name_of(dtype) + "'s size: pass a copy"));
}

/// Throws InvalidArgument.
void Communicator::check_has_kernel(const Request& request) const {
  if (request.algorithm != "auto" &&
      catalogue()[find_algorithm(request.collective, request.algorithm)].host_only)
    throw InvalidArgument(
        refusal(rank_, request.name(), "the algorithm '" + request.algorithm + "' has no kernel for GPUs"));
}

int Communicator::gpu_device() {
  const std::lock_guard order(order_);
  return gpu_ ? gpu_->device() : -1;
}

void Communicator::synchronize() {
  const std::shared_lock mapped(mapped_);
  check_usable("synchronize");
  if (gpu_) gpu_->wait(timeout_seconds_.load());
}

void Communicator::throw_if_failed() const {
  const std::shared_lock mapped(mapped_);
  if (!closed_ && gpu_) gpu_->notice();
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
    gpu_->prefer_packets(which, gpu_packets_[collective]);
    if (choice_.is_forced(which)) gpu_->force(which, choice_.choose(which, 1, true));
  }
}

std::string Communicator::chosen_on_gpu(const std::string& collective, std::size_t bytes) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  if (!gpu_) throw InvalidArgument(refusal(rank_, "chosen", "no call has been made on a GPU yet"));
  return catalogue()[gpu_->choose(which, "auto", bytes, true).first].name;
}

bool Communicator::staged() {
  const std::lock_guard order(order_);
  if (!gpu_) throw InvalidArgument(refusal(rank_, "staged", "no call has been made on a GPU yet"));
  return gpu_->is_staged();
}

std::string Communicator::protocol() {
  const std::lock_guard order(order_);
  if (!gpu_) throw InvalidArgument(refusal(rank_, "protocol", "no call has been made on a GPU yet"));
  return gpu_->protocol();
}

int Communicator::channels() {
  const std::lock_guard order(order_);
  if (!gpu_) throw InvalidArgument(refusal(rank_, "channels", "no call has been made on a GPU yet"));
  return gpu_->channels();
}

/// From the next call on that opens the GPU, or, if one has, from now on.
void Communicator::prefer_on_gpu(const std::string& collective, const NamedRules& rules) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  gpu_rules_[static_cast<std::size_t>(which)] = find_rules(which, rules);
  if (gpu_ && !choice_.is_forced(which)) gpu_->prefer(which, gpu_rules_[static_cast<std::size_t>(which)]);
}

std::optional<std::size_t> Communicator::packets_on_gpu(const std::string& collective,
                                                        std::optional<std::size_t> bytes) {
  const Collective which = find_collective(collective);
  const std::lock_guard order(order_);
  if (gpu_) gpu_->prefer_packets(which, bytes);
  return std::exchange(gpu_packets_[static_cast<std::size_t>(which)], bytes);
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
