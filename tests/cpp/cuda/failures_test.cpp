// What kernels do when a peer does not come or makes another call: they end, name it, and leave the GPU as it
// was.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "cuda/fabric_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr double kShortTimeout = 0.1;
constexpr auto kSoon = 20s;  // less than the timeout of a task, and more than a busy machine needs
constexpr std::size_t kCount = 3001;

class DeviceFailures : public OnFabrics {
 protected:
  /// The GPU still runs what it is given.
  static void expect_usable() {
    constexpr int kWorld = 2;
    const Buffers data(kWorld, kCount * kWidth);
    for (int rank = 0; rank < kWorld; ++rank) data.put(rank, values_of(rank, kCount));
    run_ranks(kWorld, [&](FabricRank& self) {
      self.launch(all_reduce_task("ring", kCount, kWorld), data.at(self.rank()), data.at(self.rank()));
      self.expect_success();
    });
    for (int rank = 0; rank < kWorld; ++rank) ASSERT_EQ(data.get<std::int32_t>(rank), sum_of(kWorld, kCount));
  }
};

void expect_fault(const FabricRank& rank, GpuFault::Kind kind, int peer, std::uint64_t sequence) {
  EXPECT_EQ(cudaStreamSynchronize(rank.stream()), cudaSuccess);
  const GpuFault fault = rank.fabric().fault();
  EXPECT_EQ(fault.kind, kind) << "rank " << rank.rank();
  EXPECT_EQ(fault.peer, peer) << "rank " << rank.rank();
  EXPECT_EQ(fault.sequence, sequence) << "rank " << rank.rank();
}

template <class Condition>
void wait_until(Condition condition) {
  const Clock::time_point deadline = Clock::now() + 30s;
  while (!condition() && Clock::now() < deadline) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(condition());
}

/// As the watcher of a communicator does, until the calls of `rank` are over: what one rank has found ends
/// the waits of all.
void watch(const FabricRank& rank, std::atomic<bool>& has_fault) {
  while (rank.fabric().progress().ended < rank.calls()) {
    if (rank.fabric().fault().kind != GpuFault::none) has_fault = true;
    if (has_fault) rank.fabric().give_up();
    std::this_thread::sleep_for(1ms);
  }
  if (rank.fabric().fault().kind != GpuFault::none) has_fault = true;
}

/// Two ranks with a task each, which they take for the same. Who sees the difference may differ: in some
/// algorithms one rank sends first.
void expect_mismatch(const GpuTask& first, const GpuTask& second) {
  const Buffers data(2, std::max({first.in_bytes, second.in_bytes}));
  const Clock::time_point begin = Clock::now();
  std::atomic<bool> has_fault = false;
  run_ranks(2, [&](FabricRank& self) {
    self.launch(self.rank() == 0 ? first : second, data.at(self.rank()), data.at(self.rank()));
    watch(self, has_fault);
    const GpuFault fault = self.fabric().fault();
    if (fault.kind != GpuFault::none) expect_fault(self, GpuFault::mismatch, 1 - self.rank(), 1);
  });
  EXPECT_TRUE(has_fault);
  EXPECT_LT(Clock::now() - begin, kSoon);
}

TEST_F(DeviceFailures, ARankThatDoesNotComeEndsTheWaitOfItsPeerAndIsNamed) {
  constexpr int kWorld = 2;
  const Buffers data(kWorld, kCount * kWidth);
  for (const std::string protocol : {"simple", "packets"})
    for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce)) {
      SCOPED_TRACE(protocol + ", " + catalogue()[algorithm].name);
      const OrderedProtocol ordered(protocol);
      run_ranks(kWorld, [&](FabricRank& self) {
        self.launch(all_reduce_task("two_shot", kCount, kWorld), data.at(self.rank()), data.at(self.rank()));
        if (self.rank() == 1) return;
        GpuTask task = task_of(algorithm, kCount, kWorld);
        task.timeout_seconds = kShortTimeout;
        const Clock::time_point begin = Clock::now();
        self.launch(task, data.at(0), data.at(0));
        expect_fault(self, GpuFault::timeout, 1, 2);
        EXPECT_LT(Clock::now() - begin, kSoon);
      });
    }
  expect_usable();
}

TEST_F(DeviceFailures, EveryRankNamesTheOneThatDoesNotCome) {
  constexpr int kWorld = 4, kAbsent = 2;
  const Buffers in(kWorld, kCount * kWidth), out(kWorld, kCount * kWidth);
  run_ranks(kWorld, [&](FabricRank& self) {
    GpuTask task = all_reduce_task("one_shot", kCount, kWorld);
    task.timeout_seconds = 1;  // in which all others have begun
    if (self.rank() == kAbsent) return;
    self.launch(task, in.at(self.rank()), out.at(self.rank()));
    expect_fault(self, GpuFault::timeout, kAbsent, 1);
  });
  expect_usable();
}

// In a ring rank 1 hears from rank 0 alone, which does not hear from rank 2.
TEST_F(DeviceFailures, ARankThatGivesUpSendsNothingThatLooksLikeAResult) {
  constexpr int kWorld = 3;
  const Buffers data(kWorld, kCount * kWidth);
  run_ranks(kWorld, [&](FabricRank& self) {
    GpuTask task = all_reduce_task("ring", kCount, kWorld);
    task.timeout_seconds = self.rank() == 0 ? kShortTimeout : 10 * kShortTimeout;
    if (self.rank() == 2) return;
    self.launch(task, data.at(self.rank()), data.at(self.rank()));
    expect_fault(self, GpuFault::timeout, self.rank() == 0 ? 2 : 0, 1);
  });
}

TEST_F(DeviceFailures, CallsBehindTheOneThatFailedAreNotTakenForIt) {
  constexpr int kWorld = 3;
  const Buffers data(kWorld, kCount * kWidth);
  run_ranks(kWorld, [&](FabricRank& self) {
    GpuTask task = all_reduce_task("ring", kCount, kWorld);
    task.timeout_seconds = self.rank() == 0 ? kShortTimeout : 10 * kShortTimeout;
    if (self.rank() == 2) return;
    for (int call = 0; call < 3; ++call) self.launch(task, data.at(self.rank()), data.at(self.rank()));
    expect_fault(self, GpuFault::timeout, self.rank() == 0 ? 2 : 0, 1);
  });
}

TEST_F(DeviceFailures, DifferentCountsAreAMismatch) {
  for (const std::string protocol : kEveryProtocol)
    for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce)) {
      SCOPED_TRACE(protocol + ", " + catalogue()[algorithm].name);
      const OrderedProtocol ordered(protocol);
      expect_mismatch(task_of(algorithm, kCount, 2), task_of(algorithm, 2 * kCount, 2));
    }
  expect_usable();
}

TEST_F(DeviceFailures, DifferentOperationsAndAlgorithmsAreAMismatch) {
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce)) {
    SCOPED_TRACE(catalogue()[algorithm].name);
    const GpuTask sum = task_of(algorithm, kCount, 2);
    GpuTask maximum = sum;
    maximum.op = ReduceOp::max;
    expect_mismatch(sum, maximum);
  }
  expect_mismatch(all_reduce_task("one_shot", kCount, 2), all_reduce_task("two_shot", kCount, 2));
}

TEST_F(DeviceFailures, GivingUpEndsKernelsThatWaitAndThoseBehindThem) {
  constexpr int kWorld = 2;
  const Buffers data(kWorld, kCount * kWidth);
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce)) {
    SCOPED_TRACE(catalogue()[algorithm].name);
    const Clock::time_point begin = Clock::now();
    run_ranks(kWorld, [&](FabricRank& self) {
      if (self.rank() == 1) return;
      for (int call = 0; call < 8; ++call)
        self.launch(task_of(algorithm, kCount, kWorld), data.at(0), data.at(0));
      wait_until([&] { return self.fabric().progress().begun != 0; });
      self.fabric().give_up();
      expect_fault(self, GpuFault::none, 0, 0);  // the host knows why
      EXPECT_EQ(self.fabric().progress().ended, 8U);
    });
    EXPECT_LT(Clock::now() - begin, kSoon);
  }
  expect_usable();
}

TEST_F(DeviceFailures, AFabricClosesWhileItsKernelsWait) {
  constexpr int kWorld = 2;
  const Buffers data(kWorld, kCount * kWidth);
  Meeting meeting(kWorld);
  const Clock::time_point begin = Clock::now();
  meeting.run([&](int rank) {
    {
      FabricRank self(meeting, rank);
      meeting.come(rank);
      if (rank == 0) self.launch(all_reduce_task("ring", kCount, kWorld), data.at(0), data.at(0));
      meeting.come(rank);
      if (rank == 1) meeting.come(rank);  // its memory stays until rank 0 is done with it
    }
    if (rank == 0) meeting.come(rank);
  });
  EXPECT_LT(Clock::now() - begin, kSoon);
  expect_usable();
}

TEST_F(DeviceFailures, ProgressCountsKernelsAndCalls) {
  constexpr int kWorld = 2;
  const Buffers data(kWorld, kCount * kWidth);
  Meeting meeting(kWorld);
  meeting.run([&](int rank) {
    FabricRank self(meeting, rank);
    const auto expect_progress = [&](GpuProgress expected) {
      const GpuProgress now = self.fabric().progress();
      EXPECT_EQ(now.begun, expected.begun);
      EXPECT_EQ(now.ended, expected.ended);
      EXPECT_EQ(now.ended_together, expected.ended_together);
      EXPECT_EQ(now.newest, expected.newest);
      EXPECT_EQ(now.finished, expected.finished);
    };
    const auto launch = [&] {
      self.launch(all_reduce_task("one_shot", kCount, kWorld), data.at(rank), data.at(rank));
    };
    expect_progress({0, 0, 0, 0, 0, 0});
    for (int call = 0; call < 3; ++call) launch();
    self.expect_success();
    expect_progress({3, 3, 3, 3, 3, 0});
    meeting.come(rank);
    if (rank == 0) {
      launch();
      wait_until([&] { return self.fabric().progress().begun == 4; });
      EXPECT_TRUE(self.fabric().progress().runs());
      expect_progress({4, 3, 3, 4, 3, 0});
    }
    meeting.come(rank);
    if (rank == 1) launch();
    self.expect_success();
    expect_progress({4, 4, 4, 4, 4, 0});
    meeting.come(rank);
  });
}

}  // namespace
}  // namespace ringtree::testing
