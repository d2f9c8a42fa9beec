// The process group backend: c10d's virtual methods over a communicator.
//
//     backend.cpp       how it begins, divides and ends; how a call runs
//     collectives.cpp   what the collectives of c10d are in the core's terms
//     messages.h        send and recv, with tags
//     backend_gpu.cpp   how a call on a GPU runs
#pragma once

#include <c10/core/Stream.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "communicator/communicator.h"
#include "torch/messages.h"
#include "torch/tensors.h"
#include "torch/work.h"

namespace ringtree {

class StreamWork;

class TorchBackend final : public c10d::Backend {
 public:
  using Result = c10::intrusive_ptr<c10d::Work>;
  using StorePtr = c10::intrusive_ptr<c10d::Store>;
  using OptionsPtr = c10::intrusive_ptr<Options>;
  using Milliseconds = std::chrono::milliseconds;

  /// What "auto" takes where the user has a say, and RINGTREE_FAULT.
  struct Choices {
    using Rules = std::vector<std::pair<std::string, std::vector<std::pair<std::size_t, std::string>>>>;

    Rules preferred, preferred_on_gpu;
    std::vector<std::pair<std::string, std::size_t>> packets_on_gpu;
    std::vector<std::pair<std::string, std::string>> forced;
    std::string faults;
  };
  /// Python reads the user's settings. Those of rank 0 hold for all, so they travel as text.
  struct Configuration {
    std::string name;  ///< of the backend; PyTorch's tests give it another one
    std::string settings;
    std::function<Choices(const std::string& settings, int size)> choose;
  };

  /// Collective. Ranks meet through `exchange`, or in the store.
  TorchBackend(StorePtr store, int rank, int size, OptionsPtr options, Configuration configuration,
               Exchange exchange = nullptr);
  TorchBackend(const TorchBackend&) = delete;
  TorchBackend& operator=(const TorchBackend&) = delete;
  ~TorchBackend() override;

  const std::string getBackendName() const override { return configuration_.name; }
  OptionsPtr getBackendOptions() override { return options_; }

  Result broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  Result allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  Result allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  Result allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override;
  Result reduce(Tensors& tensors, const c10d::ReduceOptions& options) override;
  Result allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                   const c10d::AllgatherOptions& options) override;
  Result _allgather_base(at::Tensor& output, at::Tensor& input,
                         const c10d::AllgatherOptions& options) override;
  Result allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                             const c10d::AllgatherOptions& options) override;
  Result allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                         const c10d::AllgatherOptions& options) override;
  Result gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& options) override;
  Result scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                 const c10d::ScatterOptions& options) override;
  Result reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                        const c10d::ReduceScatterOptions& options) override;
  Result _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                              const c10d::ReduceScatterOptions& options) override;
  Result reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                         const c10d::ReduceScatterOptions& options) override;
  Result alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<std::int64_t>& output_splits,
                       std::vector<std::int64_t>& input_splits,
                       const c10d::AllToAllOptions& options) override;
  Result alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& options) override;
  Result barrier(const c10d::BarrierOptions& options) override;
  void monitoredBarrier(const c10d::BarrierOptions& options, bool wait_for_all) override;

  Result send(Tensors& tensors, int to, int tag) override;
  Result recv(Tensors& tensors, int from, int tag) override;
  Result recvAnysource(Tensors& tensors, int tag) override;

  bool supportsCoalescing() const override { return true; }
  void startCoalescing() override;
  Result endCoalescing() override;

  bool supportsSplitting() const override { return true; }
  c10::intrusive_ptr<Backend> split(const StorePtr& store, const std::vector<int>& ranks,
                                    const OptionsPtr& options) override;
  c10::intrusive_ptr<Backend> merge(const StorePtr& store, const OptionsPtr& options, const int& rank,
                                    const int& size) override;

  bool supportsShrinking() const override { return true; }
  c10::intrusive_ptr<Backend> shrink(const std::vector<std::int64_t>& excluded, int flags,
                                     const OptionsPtr& options) override;

  std::shared_ptr<c10::Allocator> getMemAllocator() override;
  bool supportsTensorAlloc(c10::DeviceIndex /*device*/) override { return true; }
  at::Tensor allocateTensor(long size, at::TensorOptions options) override;

  void abort() override;
  void shutdown() override;
  /// For `ringtree top` and traces.
  void setGroupUid(const std::string& uid) override;
  c10d::ErrorType getError() override { return error_; }
  void setTimeout(Milliseconds timeout) override;
  void setSequenceNumberForGroup() override {}
  std::uint64_t getSequenceNumberForGroup() override { return sequence_; }
  void registerOnCompletionHook(std::function<void(std::shared_ptr<c10d::WorkInfo>)>&& hook) override;
  void waitForPendingWorks() override;
  void enableCollectivesTiming() override {}  // always on: see TorchWork::getDuration

 private:
  /// A collective on its way into the core.
  struct Call {
    c10d::OpType type;
    const char* name;  ///< as c10d's other backends call it, for the profiler
    Request request;
    bool async;
    Tensors inputs, outputs;  ///< the user's
    Staging staging{};
  };

  /// A message on its way into the core, alone or with the others that are coalesced.
  struct GpuMessage {
    Letter letter;
    at::Tensor tensor;
    Staging staging;
    c10::intrusive_ptr<StreamWork> work;
  };

  Result start(Call call);
  Result start_on_gpu(const Call& call, c10::Device device);
  Result all_on_gpu(c10::Device device, c10d::OpType type, const char* name, const Tensors& inputs,
                    Tensors outputs);
  c10::intrusive_ptr<StreamWork> stream_work(c10::Device device, c10d::OpType type, const char* name,
                                             const Tensors& inputs, Tensors outputs);
  c10::Stream own_stream(c10::Device device);
  c10::Stream own_stream_behind_current(c10::Device device);
  void throw_if_failed();
  void synchronize_gpu();
  c10::intrusive_ptr<Backend> part(const StorePtr& store, int rank, int size, const OptionsPtr& options);
  Result start_together(c10d::OpType type, const char* name, std::vector<Call> calls);
  Result all_of(c10d::OpType type, const char* name, const std::vector<Result>& works, const Tensors& inputs,
                Tensors outputs);
  c10::intrusive_ptr<TorchWork> track(c10::intrusive_ptr<TorchWork> work);
  std::exception_ptr note(const std::exception_ptr& error);
  /// Remembers what goes wrong in `call`, and throws it as torch wants it.
  template <class Call>
  void noting(Call call) {
    try {
      call();
    } catch (...) {
      std::rethrow_exception(note(std::current_exception()));
    }
  }
  Result start_message(c10d::OpType type, Tensors& tensors, int peer, int tag);
  Result start_message_on_gpu(c10d::OpType type, const at::Tensor& tensor, int peer);
  void exchange_on_gpu(const std::vector<GpuMessage>& messages);

  Call all_reduce_call(const at::Tensor& tensor, const c10d::AllreduceOptions& options);
  Call all_gather_call(const at::Tensor& output, const at::Tensor& input,
                       const c10d::AllgatherOptions& options);
  Call all_gather_call(const Tensors& outputs, const at::Tensor& input,
                       const c10d::AllgatherOptions& options);
  Call reduce_scatter_call(const at::Tensor& output, const at::Tensor& input,
                           const c10d::ReduceScatterOptions& options);
  std::string where(const char* call) const { return "rank " + std::to_string(rank_) + ", " + call; }
  const char* title(const char* name);
  void apply(const Choices& choices);
  void check_open(const char* call) const;
  void close();

  OptionsPtr options_;
  StorePtr store_;
  Configuration configuration_;
  std::unique_ptr<Communicator, CommunicatorDeleter> communicator_;
  std::unique_ptr<Messages> messages_;
  std::atomic<std::uint64_t> sequence_{0};
  std::atomic<c10d::ErrorType> error_{c10d::ErrorType::SUCCESS};
  std::uint64_t barriers_ = 0;  ///< monitored ones
  int shrunk_ = 0;              ///< how often
  /// c10d asks for a part of the group once for each type of device, with one store; all get the same one.
  StorePtr last_store_;
  c10::weak_intrusive_ptr<c10d::Backend> last_part_;

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable idle_;
  int pending_ = 0;
  bool coalesces_ = false;
  std::vector<Result> coalesced_;
  std::vector<GpuMessage> coalesced_messages_;
  std::optional<c10::Stream> stream_;  ///< for calls on the group's GPU that do not block
  std::set<std::string> titles_;
};

}  // namespace ringtree
