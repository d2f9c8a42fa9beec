#include "torch/backend.h"

#include <ATen/record_function.h>
#include <Python.h>

#include <algorithm>
#include <exception>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <utility>

#include "core/errors.h"
#include "torch/allocator.h"
#include "torch/errors.h"
#include "torch/stream_work.h"

namespace ringtree {
namespace {

/// Python may hold its lock while it drops a group, and callbacks that are still to run need it.
class WithoutInterpreter {
 public:
  WithoutInterpreter() {
    if (Py_IsInitialized() != 0 && PyGILState_Check() == 1) released_ = PyEval_SaveThread();
  }
  WithoutInterpreter(const WithoutInterpreter&) = delete;
  WithoutInterpreter& operator=(const WithoutInterpreter&) = delete;
  ~WithoutInterpreter() {
    if (released_ != nullptr) PyEval_RestoreThread(released_);
  }

 private:
  PyThreadState* released_ = nullptr;
};

std::vector<std::string> keys_of(int world) {
  std::vector<std::string> keys;
  keys.reserve(static_cast<std::size_t>(world));
  for (int rank = 0; rank < world; ++rank) keys.push_back("ringtree/" + std::to_string(rank));
  return keys;
}

/// Through c10d's store, whose keys are this group's alone.
std::vector<std::string> exchange_through(c10d::Store& store, int rank, int world,
                                          std::chrono::milliseconds timeout, const std::string& own) {
  const std::vector<std::string> keys = keys_of(world);
  store.set(keys[static_cast<std::size_t>(rank)], std::vector<std::uint8_t>(own.begin(), own.end()));
  try {
    store.wait(keys, timeout);
  } catch (const c10::Error&) {
    std::vector<int> missing;
    for (int peer = 0; peer < world; ++peer)
      if (!store.check({keys[static_cast<std::size_t>(peer)]})) missing.push_back(peer);
    if (missing.empty()) throw;
    throw Timeout("rank " + std::to_string(rank) + ", init_process_group: " + list_ranks(missing) + " of " +
                      std::to_string(world) + " did not come within " +
                      format_seconds(std::chrono::duration<double>(timeout).count()) + ".",
                  missing);
  }
  std::vector<std::string> all;
  for (const std::string& key : keys) {
    const std::vector<std::uint8_t> value = store.get(key);
    all.emplace_back(value.begin(), value.end());
  }
  return all;
}

c10d::ErrorType kind_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Timeout&) {
    return c10d::ErrorType::TIMEOUT;
  } catch (const RankFailure&) {
    return c10d::ErrorType::REMOTE_ERROR;
  } catch (const InvalidArgument&) {
    return c10d::ErrorType::SUCCESS;  // the group is as good as before
  } catch (...) {
    return c10d::ErrorType::COMM_ERROR;
  }
}

}  // namespace

TorchBackend::TorchBackend(StorePtr store, int rank, int size, OptionsPtr options,
                           Configuration configuration, Exchange exchange)
    : Backend(rank, size),
      options_(std::move(options)),
      store_(std::move(store)),
      configuration_(std::move(configuration)),
      last_part_(c10::intrusive_ptr<Backend>()) {
  translated([&] {
    const bool in_store = !exchange;
    if (in_store)
      exchange = [&](const std::string& own) {
        return exchange_through(*store_, rank_, size_, options_->timeout, own);
      };
    std::string settings = configuration_.settings;
    const auto exchange_with_settings = [&](const std::string& own) {
      std::vector<std::string> all =
          exchange(std::to_string(configuration_.settings.size()) + " " + configuration_.settings + own);
      for (std::size_t peer = 0; peer < all.size(); ++peer) {
        const std::size_t space = all[peer].find(' ');
        const std::size_t length = std::stoul(all[peer].substr(0, space));
        if (peer == 0) settings = all[peer].substr(space + 1, length);
        all[peer].erase(0, space + 1 + length);
      }
      return all;
    };
    const double seconds = std::chrono::duration<double>(options_->timeout).count();
    communicator_.reset(
        new Communicator(size == 1 ? "threads" : "shm", rank, size, seconds, exchange_with_settings));
    messages_ = std::make_unique<Messages>(*communicator_);
    apply(configuration_.choose(settings, size));
    configuration_.settings = settings;  // whoever is rank 0 of a group made from this one
    // Everybody has read it by now, and a store may live longer than many groups.
    if (in_store && size > 1) store_->deleteKey(keys_of(size)[static_cast<std::size_t>(rank)]);
  });
  init();
}

void TorchBackend::apply(const Choices& choices) {
  for (const auto& [collective, rules] : choices.preferred) communicator_->prefer(collective, rules);
  for (const auto& [collective, rules] : choices.preferred_on_gpu)
    communicator_->prefer_on_gpu(collective, rules);
  for (const auto& [collective, bytes] : choices.packets_on_gpu)
    communicator_->packets_on_gpu(collective, bytes);
  for (const auto& [collective, algorithm] : choices.forced) communicator_->force(collective, algorithm);
  if (!choices.faults.empty()) communicator_->inject(choices.faults);
}

TorchBackend::~TorchBackend() {
  if (communicator_->is_inherited()) return;  // the threads belong to the process that forked this one
  const WithoutInterpreter unlocked;
  try {
    close();
  } catch (...) {  // NOLINT(bugprone-empty-catch): who wants to know calls shutdown()
  }
  communicator_.reset();
}

void TorchBackend::shutdown() {
  const WithoutInterpreter unlocked;
  translated([&] { close(); });
}

void TorchBackend::close() {
  if (communicator_->closed()) return;
  messages_->stop(std::make_exception_ptr(
      Aborted(where("recv") + ": the process group was destroyed while it waited for a message.")));
  communicator_->close();
}

void TorchBackend::abort() {
  const WithoutInterpreter unlocked;
  if (communicator_->closed()) return;
  translated([&] { communicator_->abort("abort() of the process group"); });
}

TorchBackend::Result TorchBackend::start(Call call) {
  check_open(call.request.name());
  const Tensors& tensors = call.outputs.empty() ? call.inputs : call.outputs;
  if (!tensors.empty() && tensors.front().is_cuda()) return start_on_gpu(call, tensors.front().device());
  const std::uint64_t sequence = ++sequence_;
  bool async = call.async;
  {
    const std::lock_guard lock(mutex_);
    async = async || coalesces_;
  }
  auto work = track(c10::make_intrusive<TorchWork>(rank_, call.type, title(call.name), sequence, call.inputs,
                                                   call.outputs));
  if (!async) {
    try {
      communicator_->run(call.request, false, nullptr);
      call.staging.finish();
      work->complete(nullptr);
    } catch (...) {
      const std::exception_ptr error = note(std::current_exception());
      work->complete(error);
      std::rethrow_exception(error);
    }
    return work;
  }
  const auto kept = std::make_shared<Call>(std::move(call));
  const auto ended = [this, work, kept](const std::exception_ptr& error) {
    std::exception_ptr failed = error;
    if (!failed) try {
        kept->staging.finish();
      } catch (...) {
        failed = std::current_exception();
      }
    work->complete(failed ? note(failed) : nullptr);
  };
  try {
    communicator_->run(kept->request, true, kept)->then(ended);
  } catch (...) {
    const std::exception_ptr error = note(std::current_exception());
    work->complete(error);
    std::rethrow_exception(error);
  }
  const std::lock_guard lock(mutex_);
  if (coalesces_) coalesced_.push_back(work);
  return work;
}

/// Several calls whose end is one. They block only as long as all together do.
TorchBackend::Result TorchBackend::start_together(c10d::OpType type, const char* name,
                                                  std::vector<Call> calls) {
  Tensors inputs, outputs;
  std::vector<Result> works;
  const bool async = calls.empty() || calls.front().async;
  for (Call& call : calls) {
    inputs.insert(inputs.end(), call.inputs.begin(), call.inputs.end());
    outputs.insert(outputs.end(), call.outputs.begin(), call.outputs.end());
    call.name = nullptr;  // one event for all
    works.push_back(start(std::move(call)));
  }
  if (async) return all_of(type, name, works, inputs, std::move(outputs));
  auto work = c10::make_intrusive<TorchWork>(rank_, type, title(name), sequence_, inputs, std::move(outputs));
  work->complete(nullptr);
  return work;
}

/// Over when all of `works` are; fails as the first that fails.
TorchBackend::Result TorchBackend::all_of(c10d::OpType type, const char* name,
                                          const std::vector<Result>& works, const Tensors& inputs,
                                          Tensors outputs) {
  if (!works.empty())
    if (const auto* on_gpu = dynamic_cast<const StreamWork*>(works.front().get()))
      return all_on_gpu(on_gpu->device(), type, name, inputs, std::move(outputs));
  struct Left {
    std::mutex mutex;
    std::size_t count = 0;
    std::exception_ptr error{};
  };
  auto work = c10::make_intrusive<TorchWork>(rank_, type, title(name), sequence_, inputs, std::move(outputs));
  if (works.empty()) work->complete(nullptr);
  const auto left = std::make_shared<Left>();
  left->count = works.size();
  for (const Result& each : works) {
    each->getFuture()->addCallback([left, work](c10::ivalue::Future& future) {
      std::exception_ptr error;
      {
        const std::lock_guard lock(left->mutex);
        if (future.hasError() && !left->error) left->error = future.exception_ptr();
        if (--left->count != 0) return;
        error = left->error;
      }
      work->complete(error);
    });
  }
  return work;
}

void TorchBackend::startCoalescing() {
  const std::lock_guard lock(mutex_);
  coalesces_ = true;
}

TorchBackend::Result TorchBackend::endCoalescing() {
  std::vector<Result> works;
  std::vector<GpuMessage> messages;
  {
    const std::lock_guard lock(mutex_);
    coalesces_ = false;
    works.swap(coalesced_);
    messages.swap(coalesced_messages_);
  }
  translated([&] { exchange_on_gpu(messages); });
  return all_of(c10d::OpType::COALESCED, "coalesced", works, {}, {});
}

/// Counts the work as pending until it is over, and tells the hook then.
c10::intrusive_ptr<TorchWork> TorchBackend::track(c10::intrusive_ptr<TorchWork> work) {
  {
    const std::lock_guard lock(mutex_);
    ++pending_;
  }
  work->on_completion([this](const TorchWork& over) {
    if (onCompletionHook_)
      onCompletionHook_(std::make_shared<c10d::WorkInfo>(over.retrieveOpType(), over.getSequencenumber(),
                                                         over.began(), over.ended(),
                                                         over.ended() - over.began()));
    const std::lock_guard lock(mutex_);
    --pending_;
    idle_.notify_all();
  });
  return work;
}

void TorchBackend::registerOnCompletionHook(std::function<void(std::shared_ptr<c10d::WorkInfo>)>&& hook) {
  TORCH_CHECK(!onCompletionHook_, "ringtree: this group has an onCompletion hook already");
  onCompletionHook_ = std::move(hook);
}

void TorchBackend::waitForPendingWorks() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return pending_ == 0; });
}

/// Remembers that the group has failed; the error for torch.
std::exception_ptr TorchBackend::note(const std::exception_ptr& error) {
  const c10d::ErrorType kind = kind_of(error);
  if (kind != c10d::ErrorType::SUCCESS) error_ = kind;
  return for_torch(error);
}

/// Of a call in the profiler, where there is one; c10d keeps the pointer.
const char* TorchBackend::title(const char* name) {
  if (name == nullptr || !at::hasCallbacks()) return nullptr;
  const std::lock_guard lock(mutex_);
  return titles_.insert(configuration_.name + ":" + name).first->c_str();
}

void TorchBackend::check_open(const char* call) const {
  if (communicator_->closed())
    translated([&] { throw InvalidArgument(where(call) + ": the process group was destroyed."); });
}

std::shared_ptr<c10::Allocator> TorchBackend::getMemAllocator() {
  static const auto allocator = std::make_shared<BlockAllocator>();
  return allocator;
}

at::Tensor TorchBackend::allocateTensor(long size, at::TensorOptions options) {
  return translated([&] { return tensor_in_block(size, options); });
}

void TorchBackend::setGroupUid(const std::string& uid) {
  Backend::setGroupUid(uid);
  if (!communicator_->closed()) communicator_->set_label("process group " + uid);
}

void TorchBackend::setTimeout(Milliseconds timeout) {
  options_->timeout = timeout;
  communicator_->set_timeout(std::chrono::duration<double>(timeout).count());
}

c10::intrusive_ptr<c10d::Backend> TorchBackend::split(const StorePtr& store, const std::vector<int>& ranks,
                                                      const OptionsPtr& options) {
  const auto own = std::find(ranks.begin(), ranks.end(), rank_);
  if (own == ranks.end()) return nullptr;
  return part(store, static_cast<int>(own - ranks.begin()), static_cast<int>(ranks.size()), options);
}

c10::intrusive_ptr<c10d::Backend> TorchBackend::merge(const StorePtr& store, const OptionsPtr& options,
                                                      const int& rank, const int& size) {
  return part(store, rank, size, options);
}

c10::intrusive_ptr<c10d::Backend> TorchBackend::part(const StorePtr& store, int rank, int size,
                                                     const OptionsPtr& options) {
  if (store == last_store_)
    if (auto known = last_part_.lock()) return known;
  const c10::intrusive_ptr<Backend> made =
      c10::make_intrusive<TorchBackend>(store, rank, size, options ? options : options_, configuration_);
  last_store_ = store;
  last_part_ = c10::weak_intrusive_ptr<Backend>(made);
  return made;
}

/// In the old group's segment: the store may have ended with the rank that served it.
c10::intrusive_ptr<c10d::Backend> TorchBackend::shrink(const std::vector<std::int64_t>& excluded,
                                                       int /*flags*/, const OptionsPtr& options) {
  const WithoutInterpreter unlocked;
  return translated([&]() -> c10::intrusive_ptr<c10d::Backend> {
    const std::vector<int> without(excluded.begin(), excluded.end());
    messages_->stop(std::make_exception_ptr(
        Aborted(where("recv") + ": the process group was shrunk while it waited for a message.")));
    const std::vector<int> members = communicator_->survivors(without);
    if (members.size() + without.size() != static_cast<std::size_t>(size_)) {
      std::vector<int> others;
      for (int peer = 0; peer < size_; ++peer)
        if (std::find(members.begin(), members.end(), peer) == members.end()) others.push_back(peer);
      throw RankFailure(
          where("shrink_group") + ": only " + list_ranks(members) + " are left: exclude all others.", others);
    }
    const auto own = std::find(members.begin(), members.end(), rank_) - members.begin();
    auto store = c10::make_intrusive<c10d::PrefixStore>("shrunk/" + std::to_string(++shrunk_), store_);
    return c10::make_intrusive<TorchBackend>(
        std::move(store), static_cast<int>(own), static_cast<int>(members.size()),
        options ? options : options_, configuration_,
        [&](const std::string& payload) { return communicator_->exchange_with(members, payload); });
  });
}

/// Through the store, so that the group stays usable whoever is missing. The words are those that programs
/// know from Gloo.
void TorchBackend::monitoredBarrier(const c10d::BarrierOptions& options, bool wait_for_all) {
  const Milliseconds timeout = options.timeout == c10d::kUnsetTimeout ? options_->timeout : options.timeout;
  const std::string base = "ringtree/monitored/" + std::to_string(++barriers_) + "/";
  const std::string verdict = base + "verdict";
  const auto deadline = TorchWork::Clock::now() + timeout;
  if (rank_ != 0) {
    // Rank 0 may have come later, then waits as long for the others, and stores take their time.
    constexpr Milliseconds kMargin(10'000);
    const std::string reached = "Rank " + std::to_string(rank_) +
                                " successfully reached monitoredBarrier, but received errors while waiting "
                                "for send/recv from rank 0: ";
    store_->set(base + std::to_string(rank_), std::vector<std::uint8_t>{1});
    try {
      store_->wait({verdict}, 2 * timeout + kMargin);
    } catch (const c10::Error&) {
      TORCH_CHECK(false, reached, "it did not come in time");
    }
    const std::vector<std::uint8_t> said = store_->get(verdict);
    TORCH_CHECK(said.empty(), reached, std::string(said.begin(), said.end()));
    return;
  }
  TORCH_CHECK(timeout.count() > 0, "Rank 0 timed out in monitoredBarrier after ", timeout.count(), " ms");
  std::vector<int> missing;
  for (int peer = 1; peer < size_ && (missing.empty() || wait_for_all); ++peer) {
    const auto left = std::chrono::duration_cast<Milliseconds>(deadline - TorchWork::Clock::now());
    try {
      store_->wait({base + std::to_string(peer)}, std::max(left, Milliseconds(1)));
    } catch (const c10::Error&) {
      missing.push_back(peer);
    }
  }
  std::string said;
  if (!missing.empty()) {
    said = missing.size() == 1 ? "Rank " : "Ranks ";
    for (const int peer : missing) said += (peer == missing.front() ? "" : ", ") + std::to_string(peer);
    said += " failed to pass monitoredBarrier in " + std::to_string(timeout.count()) + " ms";
  }
  store_->set(verdict, std::vector<std::uint8_t>(said.begin(), said.end()));
  TORCH_CHECK(missing.empty(), "[Rank 0]: ", said);
}

}  // namespace ringtree
