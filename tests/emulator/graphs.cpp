#include <algorithm>
#include <atomic>
#include <utility>

#include "cuda_runtime_api.h"
#include "graph.h"

struct CUgraph_st {
  ringtree_emulator::Nodes nodes;
};

struct CUgraphExec_st {
  ringtree_emulator::Nodes nodes;
  std::mutex running;  ///< as in CUDA, two launches of one executable do not overlap
};

namespace ringtree_emulator {
namespace {

std::atomic<std::uint64_t> graph_launches{0};

Registry<CUgraph_st>& graphs() { return immortal<Registry<CUgraph_st>>(); }
Registry<CUgraphExec_st>& executables() { return immortal<Registry<CUgraphExec_st>>(); }

/// Each node starts once those that it comes after are done: the first of them on the thread that ended last,
/// the others on threads of their own, because one may wait for what another writes.
class Run : public std::enable_shared_from_this<Run> {
 public:
  explicit Run(const Nodes& nodes) : nodes_(nodes), next_(nodes.size()), missing_(nodes.size()) {
    for (std::size_t node = 0; node < nodes.size(); ++node) {
      missing_[node] = nodes[node].after.size();
      for (const std::size_t earlier : nodes[node].after) next_[earlier].push_back(node);
    }
    left_ = nodes.size();
  }

  void operator()() {
    std::vector<std::size_t> ready;
    for (std::size_t node = 0; node < nodes_.size(); ++node)
      if (missing_[node] == 0) ready.push_back(node);
    go_on(std::move(ready));
    done_.wait();
  }

 private:
  void go_on(std::vector<std::size_t> ready) {
    while (!ready.empty()) {
      for (std::size_t i = 1; i < ready.size(); ++i)
        pool().start(
            1, [self = shared_from_this(), node = ready[i]](std::size_t) { self->go_on({node}); }, [] {});
      const std::size_t node = ready.front();
      nodes_[node].work();
      ready = after(node);
    }
  }

  std::vector<std::size_t> after(std::size_t node) {
    const std::lock_guard lock(mutex_);
    std::vector<std::size_t> ready;
    for (const std::size_t later : next_[node])
      if (--missing_[later] == 0) ready.push_back(later);
    if (--left_ == 0) done_.open();
    return ready;
  }

  const Nodes& nodes_;
  std::vector<std::vector<std::size_t>> next_;
  std::vector<std::size_t> missing_;
  std::mutex mutex_;
  std::size_t left_ = 0;
  Gate done_;
};

}  // namespace

void run(const Nodes& nodes) {
  if (nodes.empty()) return;
  const auto running =
      std::make_shared<Run>(nodes);  // shared, because its last thread is still in it at the end
  (*running)();
}

void count_graphs(Statistics& statistics) {
  statistics.graph_launches = graph_launches;
  statistics.graphs = graphs().size();
  statistics.executables = executables().size();
}

cudaGraph_t make_graph(Nodes nodes) {
  return graphs().add(std::make_shared<CUgraph_st>(CUgraph_st{std::move(nodes)}));
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t handle,
                                 unsigned long long /*flags*/) {
  return api(__func__, [&] {
    const std::shared_ptr<CUgraph_st> graph = graphs().find(handle);
    if (graph == nullptr || executable == nullptr) return cudaErrorInvalidValue;
    auto made = std::make_shared<CUgraphExec_st>();
    made->nodes = graph->nodes;
    *executable = executables().add(std::move(made));
    return cudaSuccess;
  });
}

// There is nothing to prepare, only what can be wrong.
cudaError_t cudaGraphUpload(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  return api(__func__, [&] {
    if (executables().find(handle) == nullptr) return cudaErrorInvalidValue;
    return find_stream(stream_handle) == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  return api(__func__, [&] {
    const std::shared_ptr<CUgraphExec_st> executable = executables().find(handle);
    const std::shared_ptr<CUstream_st> stream = find_stream(stream_handle);
    if (executable == nullptr) return cudaErrorInvalidValue;
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    enter_queue(*stream);
    return submit(*stream, [executable] {
      ++graph_launches;
      const std::lock_guard lock(executable->running);
      run(executable->nodes);
    });
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return api(__func__,
             [&] { return graphs().remove(graph) == nullptr ? cudaErrorInvalidValue : cudaSuccess; });
}

// A launch that is under way goes on, as in CUDA.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return api(__func__, [&] {
    return executables().remove(executable) == nullptr ? cudaErrorInvalidValue : cudaSuccess;
  });
}
