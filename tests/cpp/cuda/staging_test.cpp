// Ranks that are threads on GPUs of which not all reach each other's memory: links are in that of the host.
#include "cuda/staging.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

#include "core/errors.h"
#include "cuda/fabric_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using Devices = std::vector<int>;

using Staging = OnFabrics;

/// Those of a rank, until its last call: to free one is to wait for the GPU, where another rank may wait for
/// this one's next call.
using Arrays = std::deque<Buffers>;

/// Every algorithm of a collective, over arrays of this rank's GPU; zero_copy as calls make it.
void check(FabricRank& self, Arrays& arrays, Collective collective, std::size_t count) {
  const int world = self.world();
  const auto all = static_cast<std::size_t>(world);
  const bool gathers = collective == Collective::all_gather;
  const Buffers& in = arrays.emplace_back(1, count * kWidth);
  const Buffers& out = arrays.emplace_back(1, count * kWidth * (gathers ? all : 1));
  Values expected = collective == Collective::broadcast ? values_of(world - 1, count) : sum_of(world, count);
  if (gathers) expected.clear();
  for (int rank = 0; gathers && rank < world; ++rank) {
    const Values theirs = values_of(rank, count);
    expected.insert(expected.end(), theirs.begin(), theirs.end());
  }
  in.put(0, values_of(self.rank(), count));
  for (const std::uint8_t algorithm : algorithms_on_device(collective)) {
    GpuTask task = task_of(algorithm, count, world);
    if (catalogue()[algorithm].access != Access::none) task.fallback = algorithm_called(collective, "ring");
    task.root = collective == Collective::broadcast ? world - 1 : 0;
    out.poison();
    if (collective == Collective::broadcast) out.put(0, values_of(self.rank(), count));
    self.launch(task, in.at(0), out.at(0));
    self.expect_success();
    EXPECT_EQ(out.get<std::int32_t>(0), expected) << catalogue()[algorithm].name;
  }
}

TEST_F(Staging, EveryAlgorithmIsRightWithoutPeerAccess) {
  set_devices(2, 1);
  for (const Devices& devices : {Devices{0, 1}, Devices{0, 1, 1}})
    run_ranks_on(devices, [](FabricRank& self) {
      EXPECT_TRUE(self.fabric().is_staged());
      Arrays arrays;
      for (const std::size_t count : {std::size_t{1}, std::size_t{5003}})
        for (const Collective each : {Collective::all_reduce, Collective::all_gather, Collective::broadcast})
          check(self, arrays, each, count);
      EXPECT_EQ(self.fabric().progress().begun, self.calls()) << "zero_copy has tried";
    });
}

TEST_F(Staging, LinksAreInMemoryOfTheHostAndHaveNoPackets) {
  set_devices(2, 1);
  run_ranks_on({0, 1}, [](FabricRank& self) {
    EXPECT_EQ(self.fabric().bytes(), sizeof(DeviceRank));
    EXPECT_EQ(self.fabric().shape().packet_bytes, 0U);
    EXPECT_GE(ringtree_emulator::statistics().host_allocated_bytes, 2 * self.fabric().shape().layout.bytes());
    EXPECT_LE(ringtree_emulator::statistics().allocated_bytes, 2 * sizeof(DeviceRank));
  });
}

TEST_F(Staging, AllRanksStageIfTwoOfThemMust) {
  set_devices(3, 2);
  run_ranks_on({0, 1}, [](FabricRank& self) { EXPECT_FALSE(self.fabric().is_staged()); });
  run_ranks_on({0, 1, 2}, [](FabricRank& self) {
    EXPECT_TRUE(self.fabric().is_staged());
    Arrays arrays;
    check(self, arrays, Collective::all_reduce, 1000);
  });
}

TEST_F(Staging, AllRanksStageIfPeerAccessCannotBeEnabled) {
  set_devices(2, 0);
  ringtree_emulator::fail_call("cudaDeviceEnablePeerAccess", cudaErrorTooManyPeers);
  run_ranks_on({0, 1}, [](FabricRank& self) {
    EXPECT_TRUE(self.fabric().is_staged());
    Arrays arrays;
    check(self, arrays, Collective::all_reduce, 1000);
  });
}

TEST_F(Staging, OpensOnAllRanksOrOnNone) {
  set_devices(2, 1);
  constexpr int kWorld = 3;
  for (const std::string function :
       {"cudaDeviceCanAccessPeer", "cudaHostAlloc", "cudaMemsetAsync", "cudaMemcpyAsync"}) {
    SCOPED_TRACE(function);
    free_kept();
    ringtree_emulator::fail_call(function, cudaErrorMemoryAllocation, 1);
    Meeting meeting(kWorld);
    const std::vector<std::string> errors = meeting.errors_of([&](int rank) {
      cudaSetDevice(rank % 2);
      const FabricRank never(meeting, rank);
    });
    ringtree_emulator::mend();
    for (const std::string& error : errors)
      EXPECT_NE(error.find("cudaErrorMemoryAllocation"), std::string::npos) << error;
  }
}

TEST_F(Staging, AnAbsentRankIsNamed) {
  set_devices(2, 1);
  const Buffers data(3, 1000 * kWidth);
  run_ranks_on({0, 1, 1}, [&](FabricRank& self) {
    if (self.rank() == 1) return;
    GpuTask task = all_reduce_task("one_shot", 1000, self.world());
    task.timeout_seconds = 0.1;
    self.launch(task, data.at(self.rank()), data.at(self.rank()));
    EXPECT_EQ(cudaStreamSynchronize(self.stream()), cudaSuccess);
    EXPECT_EQ(self.fabric().fault().kind, GpuFault::timeout);
    EXPECT_EQ(self.fabric().fault().peer, 1);
  });
}

}  // namespace
}  // namespace ringtree::testing
