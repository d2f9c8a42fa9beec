// Graphs: calls that are captured once run at every replay, on what their buffers hold then, and between
// calls that are not captured.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/direct_calls.h"
#include "cuda/fabric_process.h"
#include "cuda/gpu_ranks.h"
#include "cuda/process_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_array.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using Graphs = OnFabrics;
using ringtree_emulator::launched;
using ringtree_emulator::Stream;

constexpr std::size_t kCount = 1501;
constexpr int kReplays = kIsSanitized ? 100 : 10'000;  // by two ranks
constexpr int kFewReplays = kIsSanitized ? 10 : 100;   // by more

/// Turns of ten launches each. A stream's queue holds a thousand, and a full one holds up all threads.
constexpr int kAtOnce = 50;

/// values[i] = value_of(rank, i) + turn
__global__ void put_values(std::int32_t* values, std::size_t count, int rank, std::int32_t turn) {
  for (std::size_t i = threadIdx.x; i < count; i += blockDim.x) values[i] = value_of(rank, i) + turn;
}

/// Counts what is not value_of(rank, i) * factor + addend.
__global__ void count_differences(const std::int32_t* values, std::size_t count, int first_rank, int ranks,
                                  std::int32_t turn, unsigned* differences) {
  for (std::size_t i = threadIdx.x; i < count; i += blockDim.x) {
    std::int32_t expected = 0;
    for (int rank = first_rank; rank < first_rank + ranks; ++rank) expected += value_of(rank, i) + turn;
    if (values[i] != expected) atomicAdd(differences, 1U);
  }
}

std::int32_t* ints(std::byte* memory) { return reinterpret_cast<std::int32_t*>(memory); }

/// Three calls of a rank over buffers that a kernel fills anew before each run.
class Program {
 public:
  explicit Program(int world)
      : in_(world, kCount * kWidth),
        sum_(world, kCount * kWidth),
        all_(world, kCount * kWidth * static_cast<std::size_t>(world)),
        data_(world, kCount * kWidth),
        differences_(world, sizeof(unsigned)) {}

  void fill(const GpuRank& self, cudaStream_t stream, std::int32_t turn) const {
    for (const Buffers* buffers : {&in_, &data_})
      EXPECT_EQ(launched(put_values, 1, 2, stream, ints(buffers->at(self.rank())), kCount, self.rank(), turn),
                cudaSuccess);
  }

  void calls(GpuRank& self, cudaStream_t stream, bool eager) const {
    const int rank = self.rank(), world = self.world();
    GpuTask zero_copy = all_reduce_task("zero_copy", kCount, world);
    zero_copy.fallback = algorithm_called(Collective::all_reduce, "two_shot");
    EXPECT_EQ(self.launch(zero_copy, in_.at(rank), sum_.at(rank), stream), eager);
    const GpuTask gather = task_of(algorithm_called(Collective::all_gather, "ring"), kCount, world);
    EXPECT_EQ(self.launch(gather, in_.at(rank), all_.at(rank), stream), eager);
    EXPECT_EQ(self.launch(all_reduce_task("two_shot", kCount, world), data_.at(rank), data_.at(rank), stream),
              eager);
  }

  void check(const GpuRank& self, cudaStream_t stream, std::int32_t turn) const {
    const int rank = self.rank(), world = self.world();
    auto* const differences = reinterpret_cast<unsigned*>(differences_.at(rank));
    const auto compare = [&](const std::int32_t* values, int first_rank, int ranks) {
      EXPECT_EQ(
          launched(count_differences, 1, 2, stream, values, kCount, first_rank, ranks, turn, differences),
          cudaSuccess);
    };
    compare(ints(sum_.at(rank)), 0, world);
    compare(ints(data_.at(rank)), 0, world);
    for (int peer = 0; peer < world; ++peer)
      compare(ints(all_.at(rank)) + static_cast<std::size_t>(peer) * kCount, peer, 1);
  }

  unsigned differences(int rank) const { return differences_.get<unsigned>(rank)[0]; }

 private:
  Buffers in_, sum_, all_, data_, differences_;
};

TEST_F(Graphs, RunTheirCallsAtEachReplayOnWhatTheBuffersHoldThen) {
  for (const int world : {2, 3}) {
    const int replays = world == 2 ? kReplays : kFewReplays;
    const Program program(world);
    run_gpu_ranks(world, [&](GpuRank& self) {
      const Stream stream;
      const Graph graph(stream, [&] { program.calls(self, stream, false); });
      self.come();  // nobody may wait for the device while another rank captures
      for (int turn = 0; turn < replays; ++turn) {
        program.fill(self, stream, turn);
        graph.replay(stream);
        program.check(self, stream, turn);
        if (turn % kAtOnce == kAtOnce - 1) EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      }
      self.expect_success();
      EXPECT_EQ(self.gpu().progress().ended, 3U * static_cast<unsigned>(replays));
    });
    for (int rank = 0; rank < world; ++rank) EXPECT_EQ(program.differences(rank), 0U);
  }
}

TEST_F(Graphs, TakeTurnsWithCallsThatAreNotCaptured) {
  constexpr int kWorld = 2, kTurns = 20;
  const Program program(kWorld);
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const Stream stream;
    const auto eager = [&](int turn) {
      program.fill(self, stream, turn);
      program.calls(self, stream, true);
      program.check(self, stream, turn);
    };
    eager(-1);
    const Graph graph(stream, [&] { program.calls(self, stream, false); });
    self.come();
    for (int turn = 0; turn < kTurns; ++turn) {
      program.fill(self, stream, turn);
      graph.replay(stream);
      program.check(self, stream, turn);
      eager(-turn);
    }
    self.expect_success();
  });
  for (int rank = 0; rank < kWorld; ++rank) EXPECT_EQ(program.differences(rank), 0U);
}

// Scaled in place of the result, and in memory of the stream where the result has no room.
TEST_F(Graphs, ScaleContributionsAnewAtEachReplay) {
  constexpr int kWorld = 2, kTurns = 10;
  constexpr std::size_t kFew = 101;
  using Floats = std::vector<float>;
  const Buffers in(kWorld, kFew * kWidth * kWorld), sum(kWorld, kFew * kWidth * kWorld);
  const Buffers share(kWorld, kFew * kWidth);
  run_gpu_ranks(kWorld, [&](GpuRank& self) {
    const int rank = self.rank();
    const Stream stream;
    const auto scaled = [&](GpuTask task) {
      task.dtype = DType::float32;
      task.op = ReduceOp::premul_sum;
      task.factor = 1 + rank;
      return task;
    };
    const Graph graph(stream, [&] {
      self.launch(scaled(all_reduce_task("ring", kWorld * kFew, kWorld)), in.at(rank), sum.at(rank), stream);
      self.launch(scaled(task_of(algorithm_called(Collective::reduce_scatter, "ring"), kFew, kWorld)),
                  in.at(rank), share.at(rank), stream);
    });
    self.come();
    for (int turn = 0; turn < kTurns; ++turn) {
      const auto value = static_cast<float>(turn);
      in.put(rank, Floats(kWorld * kFew, value));
      graph.replay(stream);
      self.expect_success();
      EXPECT_EQ(sum.get<float>(rank), Floats(kWorld * kFew, 3 * value));
      EXPECT_EQ(share.get<float>(rank), Floats(kFew, 3 * value));
      self.come();  // before the next turn's values
    }
  });
}

/// Arrays that no call had before the capture: its first call makes them known, and so takes its fallback at
/// every replay; its second one maps them, which CUDA by itself forbids while a stream is captured.
int maps_while_it_captures(Process& self, void* in, std::byte* out, cudaStreamCaptureMode mode) {
  std::byte* const direct = out + kDirectCount * kWidth;  // in the same block
  const Stream stream;
  const Graph graph(
      stream,
      [&] {
        if (self.rank != 0) self.exchange("");  // rank 0 is first, and so finds nothing to map
        self.enqueue(zero_copy_task(kDirectCount, self.world), in, out, stream);
        if (self.rank == 0) self.exchange("");
        self.exchange("");  // all have told of theirs
        self.enqueue(direct_task(kDirectCount, self.world), in, direct, stream);
      },
      mode);
  self.exchange("");
  for (int turn = 0; turn < 3; ++turn) {
    poison_output(out, 2 * kDirectCount);
    put_input(self, in, kDirectCount, turn);
    const std::uint64_t before = self.fabric->progress().ended;
    graph.replay(stream);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess)
    REQUIRE(is_right(self, out, kDirectCount, turn) && is_right(self, direct, kDirectCount, turn))
    REQUIRE(self.fabric->progress().ended == before + 2 + 1)
  }
  REQUIRE(cudaGetLastError() == cudaSuccess)
  return 0;
}

int scenario_mapped_in_capture(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const Buffers arrays(4, kSmallestMappedBytes);  // none where another one was, which peers have mapped
  for (const auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    const int first = mode == cudaStreamCaptureModeGlobal ? 0 : 2;
    REQUIRE(maps_while_it_captures(self, arrays.at(first), arrays.at(first + 1), mode) == 0)
    const VirtualArray chunks({1, 1});
    REQUIRE(maps_while_it_captures(self, chunks.at(0), chunks.at(kGranule), mode) == 0)
    self.leave();
  }
  return 0;
}

TEST(GraphsBetweenProcesses, ArraysThatComeUpInACaptureAreMappedInIt) {
  EXPECT_EQ(run_processes("mapped in capture", 2), all_well(2));
}

const NamedScenario kMappedInCapture("mapped in capture", &scenario_mapped_in_capture);

}  // namespace
}  // namespace ringtree::testing
