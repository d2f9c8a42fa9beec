// Ranks that are threads, as a communicator has them: over the library's interface, with streams that come
// and go.
#pragma once

#include <test_support.h>

#include <cstdint>
#include <memory>

#include "core/gpu.h"
#include "cuda/fabric_ranks.h"
#include "cuda/tasks.h"
#include "cuda/thread_meeting.h"

extern "C" ringtree::GpuLibrary* ringtree_gpu_library();

namespace ringtree::testing {

class GpuRank {
 public:
  GpuRank(Meeting& meeting, int rank)
      : meeting_(&meeting),
        rank_(rank),
        gpu_(ringtree_gpu_library()->open(0, rank, meeting.world(), meeting.exchange_of(rank),
                                          *make_transport("threads"))) {}

  int rank() const { return rank_; }
  int world() const { return meeting_->world(); }
  Gpu& gpu() const { return *gpu_; }

  /// What Gpu::launch() says.
  bool launch(const GpuTask& task, const void* in, void* out, cudaStream_t stream) {
    return gpu_->launch(numbered(task, ++calls_), {in, out}, reinterpret_cast<GpuStream>(stream));
  }

  void come() const { meeting_->come(rank_); }

  /// For all ranks.
  void expect_success() const {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(gpu_->fault().kind, GpuFault::none) << "rank " << rank_ << ", peer " << gpu_->fault().peer;
    come();
  }

 private:
  Meeting* meeting_;
  int rank_;
  std::uint64_t calls_ = 0;
  std::unique_ptr<Gpu> gpu_;
};

/// body(rank) for each rank; the device is idle when they close.
template <class Body>
void run_gpu_ranks(int world, Body body) {
  Meeting meeting(world);
  meeting.run([&](int rank) {
    GpuRank self(meeting, rank);
    body(self);
    self.expect_success();
  });
}

/// What a stream does between its begin and its end.
class Graph {
 public:
  template <class Body>
  Graph(cudaStream_t stream, Body body, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    EXPECT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
    body();
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable_, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { EXPECT_EQ(cudaGraphExecDestroy(executable_), cudaSuccess); }

  void replay(cudaStream_t stream) const { EXPECT_EQ(cudaGraphLaunch(executable_, stream), cudaSuccess); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace ringtree::testing
