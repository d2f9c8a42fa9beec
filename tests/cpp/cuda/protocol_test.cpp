// How messages travel: which protocol a fabric settles on, and that calls of all algorithms follow one
// another over the same packets.
#include "cuda/protocol.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "core/errors.h"
#include "cuda/fabric_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

class DeviceProtocol : public OnFabrics {
 protected:
  /// That ranks 0 and 1 have on GPUs of these numbers.
  static void expect_shape(int first, int second, std::size_t packet_bytes, bool lines) {
    Meeting meeting(2);
    meeting.run([&](int rank) {
      ASSERT_EQ(cudaSetDevice(rank == 0 ? first : second), cudaSuccess);
      const FabricRank self(meeting, rank);
      EXPECT_EQ(self.fabric().shape().packet_bytes, packet_bytes);
      EXPECT_EQ(self.fabric().shape().layout.packets.lines, lines);
      self.wait_for_all();
    });
  }

  static std::vector<std::string> errors_on(int first, int second) {
    Meeting meeting(2);
    return meeting.errors_of([&](int rank) {
      ASSERT_EQ(cudaSetDevice(rank == 0 ? first : second), cudaSuccess);
      const FabricRank self(meeting, rank);
    });
  }
};

constexpr std::size_t kAllSizes = std::numeric_limits<std::size_t>::max();

TEST_F(DeviceProtocol, LinesGoWhereSixteenBytesArriveAtOnce) {
  set_devices(2, 0);
  expect_shape(0, 0, std::size_t{256} << 10U, true);
  expect_shape(0, 1, std::size_t{256} << 10U, true);
  set_devices(2, 0, kOverPcie);
  expect_shape(0, 0, std::size_t{256} << 10U, true);
  expect_shape(0, 1, std::size_t{64} << 10U, false);
}

TEST_F(DeviceProtocol, TheEnvironmentOrdersOneForAllSizes) {
  set_devices(2, 0);
  const std::vector<std::tuple<std::string, std::size_t, bool>> orders = {
      {"simple", 0, false}, {"packets", kAllSizes, false}, {"lines", kAllSizes, true}};
  for (const auto& [protocol, packet_bytes, lines] : orders) {
    const OrderedProtocol ordered(protocol);
    expect_shape(0, 1, packet_bytes, lines);
    EXPECT_EQ(Fabric::of_virtual_ranks(2)->shape().layout.packets.lines, lines);
  }
}

TEST_F(DeviceProtocol, WhatCannotBeIsRefusedOnAllRanks) {
  const auto expect = [](const std::string& protocol, int other_device, const std::string& text) {
    const OrderedProtocol ordered(protocol);
    for (const std::string& error : errors_on(0, other_device))
      EXPECT_NE(error.find(text), std::string::npos) << error;
  };
  set_devices(2, 0, kOverPcie);
  expect("lines", 1, "joined by NVLink and that all processes see");
  set_devices(2, 1);
  expect("lines", 1, "without peer access there are no packets");
  expect("ll128", 0, "is simple, packets or lines, not 'll128'");
}

/// One call of the medley: what each rank passes, and what it has to get.
struct Call {
  std::uint8_t algorithm;
  std::size_t count;  ///< elements of a share
  int root, number;

  Collective collective() const { return catalogue()[algorithm].collective; }
  GpuTask task(int world) const {
    GpuTask task = task_of(algorithm, count, world);
    task.root = root;
    return task;
  }
  /// Other values in each call, so that what an earlier one has left behind is seen.
  Values source(int rank, int world) const {
    const GpuTask made = task(world);
    const std::size_t bytes = collective() == Collective::broadcast ? made.out_bytes : made.in_bytes;
    return values_of(rank + 100 * number, bytes / kWidth);
  }
  std::optional<Values> expected(int rank, int world) const {
    const auto part = [&](const Values& all) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rank) * count);
      return Values(begin, begin + static_cast<std::ptrdiff_t>(count));
    };
    Values sum(source(0, world).size()), shares, parts;
    for (int peer = 0; peer < world; ++peer) {
      const Values theirs = source(peer, world);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += theirs[i];
      shares.insert(shares.end(), theirs.begin(), theirs.end());
      if (collective() != Collective::all_to_all) continue;
      const Values own = part(theirs);
      parts.insert(parts.end(), own.begin(), own.end());
    }
    switch (collective()) {
      case Collective::all_reduce: return sum;
      case Collective::reduce: return rank == root ? std::optional(sum) : std::nullopt;
      case Collective::reduce_scatter: return part(sum);
      case Collective::broadcast: return source(root, world);
      case Collective::all_gather: return shares;
      case Collective::gather: return rank == root ? std::optional(shares) : std::nullopt;
      case Collective::scatter: return part(source(root, world));
      case Collective::all_to_all: return parts;
      default: return std::nullopt;
    }
  }
};

std::vector<Call> medley(int world, int calls, unsigned seed) {
  std::vector<std::uint8_t> algorithms;
  for (std::size_t i = 0; i < catalogue().size(); ++i)
    if (kernels()[i].over_packets != nullptr) algorithms.push_back(static_cast<std::uint8_t>(i));
  std::mt19937 random(seed);
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random()) % bound; };
  constexpr std::size_t kCounts[] = {0, 1, 2, 13, 257, 1500};
  std::vector<Call> made;
  for (int number = 0; number < calls; ++number)
    made.push_back({algorithms[below(algorithms.size())], kCounts[below(std::size(kCounts))],
                    static_cast<int>(below(static_cast<std::size_t>(world))), number});
  return made;
}

/// All calls are enqueued before the first has ended, so ranks drift apart as far as the links let them.
void play(int world, const std::vector<Call>& calls) {
  run_ranks(world, [&](FabricRank& self) {
    std::deque<Buffers> in, out;
    for (const Call& call : calls) {
      const GpuTask task = call.task(world);
      const Values source = call.source(self.rank(), world);
      in.emplace_back(1, source.size() * kWidth).put(0, source);
      out.emplace_back(1, task.out_bytes).poison();
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const bool one_array = calls[i].collective() == Collective::broadcast;
      self.launch(calls[i].task(world), in[i].at(0), one_array ? in[i].at(0) : out[i].at(0));
    }
    self.expect_success();
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const bool one_array = calls[i].collective() == Collective::broadcast;
      const std::optional<Values> expected = calls[i].expected(self.rank(), world);
      if (!expected) continue;
      ASSERT_EQ((one_array ? in[i] : out[i]).get<std::int32_t>(0), *expected)
          << "call " << i << ", " << kCollectiveNames[static_cast<std::size_t>(calls[i].collective())] << " "
          << catalogue()[calls[i].algorithm].name << ", " << calls[i].count << " elements, rank "
          << self.rank();
    }
    self.wait_for_all();  // before a rank frees its arrays: that is to wait for the GPU
  });
}

TEST_F(DeviceProtocol, CallsOfAllAlgorithmsFollowOneAnotherOverTheSamePackets) {
  for (const char* const protocol : {"packets", "lines"})
    for (const int world : {2, 3, 5}) {
      const unsigned seed = std::random_device{}();
      SCOPED_TRACE(std::string(protocol) + ", " + std::to_string(world) + " ranks, seed " +
                   std::to_string(seed));
      const OrderedProtocol ordered(protocol);
      play(world, medley(world, kIsSanitized ? 25 : 80, seed));
    }
}

TEST_F(DeviceProtocol, ARootMayBeAheadOfItsReaders) {
  const OrderedProtocol ordered("lines");
  const std::uint8_t broadcast = algorithm_called(Collective::broadcast, "one_shot");
  const std::uint8_t reduce = algorithm_called(Collective::reduce, "one_shot");
  const std::uint8_t everyone = algorithm_called(Collective::all_reduce, "one_shot");
  std::vector<Call> calls;
  for (int number = 0; number < 60; ++number) {
    const std::uint8_t algorithm = number % 7 == 6 ? everyone : number % 20 < 10 ? broadcast : reduce;
    calls.push_back({algorithm, 5, number % 3 == 0 ? 1 : 0, number});
  }
  play(3, calls);
}

TEST_F(DeviceProtocol, ASenderMayBeAheadOfItsReceiver) {
  const std::uint8_t scatter = algorithm_called(Collective::scatter, "direct");
  std::vector<Call> calls;
  for (int number = 0; number < 20; ++number)
    calls.push_back({scatter, kIsSanitized ? 3000U : 20'000U, 0, number});
  for (const char* const protocol : {"packets", "lines"}) {
    const OrderedProtocol ordered(protocol);
    play(2, calls);
  }
}

/// Two ranks make a call, each with packets up to so many bytes; what has gone wrong.
GpuFault::Kind fault_with(std::optional<std::size_t> first, std::optional<std::size_t> second) {
  std::atomic<GpuFault::Kind> found = GpuFault::none;
  const Buffers data(2, 100 * kWidth);
  run_ranks(2, [&](FabricRank& self) {
    GpuTask task = all_reduce_task("ring", 100, 2);
    task.timeout_seconds = 0.2;
    task.packet_bytes = self.rank() == 0 ? first : second;
    self.launch(task, data.at(self.rank()), data.at(self.rank()));
    EXPECT_EQ(cudaStreamSynchronize(self.stream()), cudaSuccess);
    if (self.fabric().fault().kind != GpuFault::none) found = self.fabric().fault().kind;
  });
  return found;
}

TEST_F(DeviceProtocol, ACallMaySayUpToWhichSizeItGoesInPackets) {
  EXPECT_EQ(fault_with(0, 0), GpuFault::none);
  EXPECT_EQ(fault_with(400, std::nullopt), GpuFault::none);
  EXPECT_EQ(fault_with(399, 0), GpuFault::none);
  EXPECT_EQ(fault_with(399, 400), GpuFault::timeout) << "one in slots, the other in packets";
  const OrderedProtocol ordered("packets");
  EXPECT_EQ(fault_with(399, 400), GpuFault::none) << "the user has ordered packets";
}

}  // namespace
}  // namespace ringtree::testing
