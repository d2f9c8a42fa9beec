// The fabric of one rank: calls in a row, two communicators at once, peers' buffers, how it opens and closes.
#include "cuda/fabric.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "cuda/fabric_ranks.h"
#include "cuda/gpu_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using FabricOfRank = OnFabrics;
using ringtree_emulator::launched;
using ringtree_emulator::wait_until_open;

TEST_F(FabricOfRank, RunsCallsInARowWithoutTheHost) {
  const std::vector<std::size_t> counts = {1, 257, 5003, kIsSanitized ? 9000U : 40000U};
  constexpr int kRepeats = kIsSanitized ? 1 : 3;
  const auto algorithms = algorithms_on_device(Collective::all_reduce);
  for (const int world : {2, 3, 4, 8}) {
    SCOPED_TRACE("world " + std::to_string(world));
    const Buffers in(world, counts.back() * kWidth);
    std::size_t all = 0;
    for (const std::size_t count : counts) all += count * algorithms.size() * kRepeats;
    const Buffers out(world, all * kWidth);
    for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, counts.back()));
    out.poison();
    run_ranks(world, [&](FabricRank& self) {
      std::byte* to = out.at(self.rank());
      for (int repeat = 0; repeat < kRepeats; ++repeat)
        for (const std::size_t count : counts)
          for (const std::uint8_t algorithm : algorithms) {
            self.launch(task_of(algorithm, count, world), in.at(self.rank()), to);
            to += count * kWidth;
          }
      self.expect_success();
    });
    Values expected;
    for (int repeat = 0; repeat < kRepeats; ++repeat)
      for (const std::size_t count : counts)
        for (std::size_t i = 0; i < algorithms.size(); ++i) {
          const Values sum = sum_of(world, count);
          expected.insert(expected.end(), sum.begin(), sum.end());
        }
    for (int rank = 0; rank < world; ++rank) ASSERT_EQ(out.get<std::int32_t>(rank), expected);
  }
}

TEST_F(FabricOfRank, WorksBesideAnotherOnAnotherStream) {
  constexpr std::size_t kCount = 3001;
  constexpr int kCalls = kIsSanitized ? 10 : 50;
  for (const int world : {2, 4}) {
    const Buffers first(world, kCount * kWidth), second(world, kCount * kWidth);
    for (int rank = 0; rank < world; ++rank) {
      first.put(rank, values_of(rank, kCount));
      second.put(rank, Values(kCount, rank + 1));
    }
    Meeting meeting(world);
    meeting.run([&](int rank) {
      FabricRank one(meeting, rank), other(meeting, rank);
      // Every second rank begins with the other one, so that neither is first everywhere.
      for (int call = 0; call < kCalls; ++call)
        for (const bool now : {rank % 2 == 0, rank % 2 != 0})
          if (now)
            one.launch(all_reduce_task("two_shot", kCount, world), first.at(rank), first.at(rank));
          else
            other.launch(all_reduce_task("ring", kCount, world), second.at(rank), second.at(rank));
      one.expect_success();
      other.expect_success();
      meeting.come(rank);
    });
    const auto repeated = [&](std::int32_t sum) {
      for (int call = 1; call < kCalls; ++call)
        sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * static_cast<std::uint32_t>(world));
      return sum;
    };
    Values expected = sum_of(world, kCount);
    for (std::int32_t& value : expected) value = repeated(value);
    for (int rank = 0; rank < world; ++rank) {
      ASSERT_EQ(first.get<std::int32_t>(rank), expected);
      ASSERT_EQ(second.get<std::int32_t>(rank), Values(kCount, repeated(world * (world + 1) / 2)));
    }
  }
}

TEST_F(FabricOfRank, UsesTheBuffersOfRanksOfTheSameProcess) {
  constexpr int kWorld = 4;
  constexpr std::size_t kCount = 20001;
  const Buffers in(kWorld, kCount * kWidth), sums(kWorld, kCount * kWidth);
  const Buffers gathered(kWorld, kCount * kWidth * kWorld), root(kWorld, kCount * kWidth);
  Values every;
  for (int rank = 0; rank < kWorld; ++rank) {
    const Values own = values_of(rank, kCount);
    in.put(rank, own);
    root.put(rank, own);
    every.insert(every.end(), own.begin(), own.end());
  }
  run_ranks(kWorld, [&](FabricRank& self) {
    const int rank = self.rank();
    const auto launch = [&](Collective collective, const char* fallback, const void* from, void* to) {
      GpuTask task = task_of(algorithm_called(collective, "zero_copy"), kCount, kWorld);
      task.fallback = algorithm_called(collective, fallback);
      task.root = collective == Collective::broadcast ? 2 : 0;
      self.launch(task, from, to);
    };
    launch(Collective::all_reduce, "two_shot", in.at(rank), sums.at(rank));
    launch(Collective::all_gather, "ring", in.at(rank), gathered.at(rank));
    launch(Collective::broadcast, "ring", root.at(rank), root.at(rank));
    self.expect_success();
    EXPECT_EQ(self.fabric().progress().begun, 3U) << "a fallback has run";
  });
  for (int rank = 0; rank < kWorld; ++rank) {
    ASSERT_EQ(sums.get<std::int32_t>(rank), sum_of(kWorld, kCount));
    ASSERT_EQ(gathered.get<std::int32_t>(rank), every);
    ASSERT_EQ(root.get<std::int32_t>(rank), values_of(2, kCount));
  }
}

TEST_F(FabricOfRank, OpensOnAllRanksOrOnNone) {
  constexpr int kWorld = 3;
  for (const std::string function :
       {"cudaDeviceGetAttribute", "cudaMemsetAsync", "cudaHostAlloc", "cudaMemcpyAsync"}) {
    SCOPED_TRACE(function);
    free_kept();
    ringtree_emulator::fail_call(function, cudaErrorMemoryAllocation, 1);
    Meeting meeting(kWorld);
    const std::vector<std::string> errors =
        meeting.errors_of([&](int rank) { const FabricRank never(meeting, rank); });
    ringtree_emulator::mend();
    int failed = -1;
    for (int rank = 0; rank < kWorld; ++rank)
      if (errors[static_cast<std::size_t>(rank)].find("rank ") != 0) failed = rank;
    ASSERT_GE(failed, 0);
    for (int rank = 0; rank < kWorld; ++rank) {
      const std::string& error = errors[static_cast<std::size_t>(rank)];
      EXPECT_NE(error.find("cudaErrorMemoryAllocation"), std::string::npos) << error;
      if (rank == failed) continue;
      EXPECT_EQ(error.find("rank " + std::to_string(failed) + " could not open the CUDA fabric, so rank " +
                           std::to_string(rank) + " did not either: "),
                0U)
          << error;
    }
  }
}

TEST_F(FabricOfRank, OpensAndClosesWhileTheStreamOfAThreadIsBusy) {
  std::atomic<int> gate = 0;
  EXPECT_EQ(launched(wait_until_open, 1, 1, cudaStreamPerThread, &gate), cudaSuccess);
  Meeting meeting(2);
  meeting.run([&](int rank) {
    GpuRank self(meeting, rank);
    const ringtree_emulator::Stream stream;
    self.launch(task_of(algorithm_called(Collective::barrier, "one_shot"), 0, 2), nullptr, nullptr, stream);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    self.come();
  });
  EXPECT_EQ(cudaStreamQuery(cudaStreamPerThread), cudaErrorNotReady);
  gate = 1;
  EXPECT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
}

TEST_F(FabricOfRank, LeavesRoomForCallsOfAnotherCommunicator) {
  constexpr int kWorld = 4;
  constexpr std::size_t kCount = 16 * kBytesPerChannel / kWidth;  // as many blocks as there are for it
  const Buffers in(kWorld, kCount * kWidth), first(kWorld, kCount * kWidth), second(kWorld, kCount * kWidth);
  for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
  Meeting others(kWorld);
  const GpuTask task = all_reduce_task("ring", kCount, kWorld);
  run_ranks(kWorld, [&](FabricRank& self) {
    FabricRank other(others, self.rank());
    for (int rank = 0; rank < kWorld; ++rank) {  // one rank after the other
      if (rank == self.rank()) {
        self.launch(task, in.at(rank), first.at(rank));
        other.launch(task, in.at(rank), second.at(rank));
      }
      self.come();
    }
    self.expect_success();
    other.expect_success();
    self.come();
  });
  for (int rank = 0; rank < kWorld; ++rank) {
    EXPECT_EQ(first.get<std::int32_t>(rank), sum_of(kWorld, kCount));
    EXPECT_EQ(second.get<std::int32_t>(rank), sum_of(kWorld, kCount));
  }
}

TEST_F(FabricOfRank, TakesAsManyBlocksAsTheEnvironmentSays) {
  const auto channels = [] {
    std::atomic<int> found = 0;
    run_ranks(2, [&](FabricRank& self) { found = self.fabric().shape().layout.channels; });
    return found.load();
  };
  EXPECT_EQ(channels(), 4) << "of 16 multiprocessors, for two ranks and two calls";
  for (const auto& [said, expected] : {std::pair{"1", 1}, {"5", 5}, {"64", 8}}) {
    const Setting ordered("RINGTREE_GPU_CHANNELS", said);
    EXPECT_EQ(channels(), expected);
  }
  for (const char* wrong : {"0", "65", "-1", "many", "3 blocks"}) {
    const Setting ordered("RINGTREE_GPU_CHANNELS", wrong);
    Meeting meeting(1);
    EXPECT_EQ(
        meeting.errors_of([&](int rank) { const FabricRank never(meeting, rank); })[0],
        "RINGTREE_GPU_CHANNELS is a number of thread blocks, 1 to 64, not '" + std::string(wrong) + "'");
  }
}

TEST_F(FabricOfRank, RefusesMoreRanksThanItHasRoomFor) {
  constexpr int kTooMany = kMaxDeviceRanks + 1;
  Meeting meeting(kTooMany);
  for (const std::string& error : meeting.errors_of([&](int rank) { FabricRank(meeting, rank); }))
    EXPECT_EQ(error, "the CUDA fabric connects up to 16 ranks, not 17");
}

TEST_F(FabricOfRank, RefusesMoreRanksThanAGpuHoldsBlocksAtOnce) {
  constexpr int kTooMany = 3;
  set_multiprocessors(kTooMany - 1);
  Meeting meeting(kTooMany);
  for (const std::string& error : meeting.errors_of([&](int rank) { FabricRank(meeting, rank); }))
    EXPECT_EQ(error, "the GPU at " + bus_of(0) +
                         " holds 2 blocks at once, and 3 ranks share it, which wait for one another: give it "
                         "fewer ranks");
}

TEST_F(FabricOfRank, RefusesAGpuThatCannotHoldABlockOfSomeKernel) {
  ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
  hardware.blocks_per_multiprocessor = 0;
  ringtree_emulator::set_hardware(hardware);
  Meeting meeting(1);
  const std::string error = meeting.errors_of([&](int rank) { const FabricRank never(meeting, rank); })[0];
  EXPECT_EQ(error.rfind("GPU 0 cannot hold a block of the kernel of all_reduce_one_shot: 4 threads of ", 0),
            0)
      << error;
}

TEST_F(FabricOfRank, GivesBackAllThatItTakes) {
  constexpr int kWorld = 2;
  set_multiprocessors(kWorld);
  const ringtree_emulator::Statistics before = ringtree_emulator::statistics();
  const auto open_use_and_close = [] {
    run_ranks(kWorld, [](FabricRank& self) {
      self.launch(task_of(algorithm_called(Collective::barrier, "one_shot"), 0, kWorld), nullptr, nullptr);
      self.expect_success();
    });
  };
  open_use_and_close();
  const std::uint64_t threads = ringtree_emulator::statistics().threads;
  for (int again = 1; again < 50; ++again) open_use_and_close();
  EXPECT_TRUE(ringtree_emulator::statistics().same_lives(before));
  EXPECT_EQ(ringtree_emulator::statistics().threads, threads);
}

TEST_F(FabricOfRank, ArraysFromSixtyFourKibOnAreLargeEnoughForPeersToMap) {
  using Sizes = std::pair<std::size_t, std::size_t>;
  for (const auto& [bytes, room] : {Sizes{8, 8}, Sizes{65'535, 65'535}, Sizes{65'536, kSmallestMappedBytes},
                                    Sizes{100'000, kSmallestMappedBytes}, Sizes{3'000'000, 3'000'000}}) {
    SCOPED_TRACE(bytes);
    const std::size_t before = ringtree_emulator::statistics().allocated_bytes;
    std::shared_ptr<std::byte> array = ringtree_gpu_library()->allocate(bytes);
    EXPECT_EQ(ringtree_emulator::statistics().allocated_bytes, before + room);
    array.reset();
    free_kept();
    EXPECT_EQ(ringtree_emulator::statistics().allocated_bytes, before);
  }
}

}  // namespace
}  // namespace ringtree::testing
