// Ranks that are processes: they reach each other's link memory by CUDA IPC, and nothing else.
#include <emulator.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/errors.h"
#include "cuda/fabric.h"
#include "cuda/meeting.h"
#include "cuda/process_ranks.h"
#include "cuda/tasks.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

constexpr std::size_t kCount = 5003;

/// One rank, in its own process.
struct Process {
  int rank, world;
  GpuLibrary::Exchange exchange;
  std::unique_ptr<Fabric> fabric = Fabric::of_rank(rank, world, exchange);
  std::uint64_t calls = 0;

  void launch(const GpuTask& task, const void* in, void* out) {
    const GpuBuffers buffers{in, out};
    fabric->launch(numbered(task, ++calls), {&buffers, 1}, nullptr);
    check_cuda(cudaDeviceSynchronize(), "a call");
  }

  /// Nobody takes memory away that another rank uses.
  void leave() { exchange(""); }
};

#define REQUIRE(condition)                                                           \
  if (!(condition)) {                                                                \
    std::fprintf(stderr, "rank %d, line %d: %s\n", self.rank, __LINE__, #condition); \
    return 1;                                                                        \
  }

/// A buffer of this process alone.
Buffers filled(const Values& values) {
  Buffers buffer(1, values.size() * kWidth);
  buffer.put(0, values);
  return buffer;
}

Values gathered(int world) {
  Values all;
  for (int rank = 0; rank < world; ++rank) {
    const Values own = values_of(rank, kCount);
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

int check_collectives(Process& self) {
  std::uint64_t kernels = 0;
  const auto launch = [&](std::uint8_t algorithm, const Buffers& in, const Buffers& out) {
    GpuTask task = task_of(algorithm, kCount, self.world);
    const Collective collective = catalogue()[algorithm].collective;
    const bool reaches = catalogue()[algorithm].access != Access::none;
    if (reaches) task.fallback = algorithm_called(collective, "ring");
    if (collective == Collective::broadcast) task.root = self.world - 1;
    out.poison();
    if (collective == Collective::broadcast) out.put(0, values_of(self.rank, kCount));
    self.launch(task, in.at(0), out.at(0));
    kernels += reaches ? 2 : 1;  // zero_copy, which finds that it cannot, and its fallback
    return self.fabric->progress().ended == kernels && self.fabric->fault().kind == GpuFault::none;
  };
  const Buffers in = filled(values_of(self.rank, kCount)), out(1, kCount * kWidth);
  const Buffers all(1, kCount * kWidth * static_cast<std::size_t>(self.world));
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce)) {
    REQUIRE(launch(algorithm, in, out))
    REQUIRE(out.get<std::int32_t>(0) == sum_of(self.world, kCount))
  }
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_gather)) {
    REQUIRE(launch(algorithm, in, all))
    REQUIRE(all.get<std::int32_t>(0) == gathered(self.world))
  }
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::broadcast)) {
    REQUIRE(launch(algorithm, out, out))
    REQUIRE(out.get<std::int32_t>(0) == values_of(self.world - 1, kCount))
  }
  self.leave();
  return 0;
}

/// Whose arrays no other process has mapped: every zero_copy is followed by its fallback.
int scenario_collectives(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  return check_collectives(self);
}

/// Rank 1 ends, without a word, before it makes its call.
int scenario_death(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  if (rank == 1) std::_Exit(7);
  const Buffers data = filled(values_of(rank, kCount));
  GpuTask task = all_reduce_task("one_shot", kCount, world);
  task.timeout_seconds = 0.5;
  self.launch(task, data.at(0), data.at(0));
  REQUIRE(self.fabric->fault().kind == GpuFault::timeout)
  REQUIRE(self.fabric->fault().peer == 1)
  return 0;
}

/// The memory of a peer cannot be mapped by rank 1.
int scenario_unmapped(int rank, int world, const GpuLibrary::Exchange& exchange) {
  if (rank == 1) ringtree_emulator::fail_call("cudaIpcOpenMemHandle", cudaErrorMapBufferObjectFailed);
  const std::string text = "the memory of rank 0 cannot be mapped: ";
  try {
    const Process never{rank, world, exchange};
  } catch (const TransportError& error) {
    const std::string expected = rank == 1 ? text
                                           : "rank 1 could not open the CUDA fabric, so rank " +
                                                 std::to_string(rank) + " did not either: " + text;
    if (std::string(error.what()).find(expected) == 0) return 0;
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
  }
  return 1;
}

std::vector<int> all_well(int world) { return std::vector<int>(static_cast<std::size_t>(world)); }

TEST(BetweenProcesses, CollectivesWorkAndZeroCopyTakesItsFallback) {
  for (const int world : {2, 3}) EXPECT_EQ(run_processes("collectives", world), all_well(world));
}

TEST(BetweenProcesses, AProcessThatHasDiedEndsTheWaitsOfTheOthers) {
  EXPECT_EQ(run_processes("death", 3), (std::vector{0, 7, 0}));
}

TEST(BetweenProcesses, AFabricOpensOnAllRanksOrOnNone) {
  EXPECT_EQ(run_processes("unmapped", 3), all_well(3));
}

// A rank reaches a buffer of another process only in a block that it had mapped when it launched.
TEST(BetweenProcesses, BuffersAreReachedInBlocksThatAreMapped) {
  const DeviceOffer mine{nullptr, nullptr, {0, 1}, {0, 0}, 1, {0, 3}};
  DeviceOffer theirs{nullptr, nullptr, {64, 3}, {0, 2}, 2, {}};
  EXPECT_TRUE(reaches(mine, theirs, 1, true));
  theirs.out_place.block = 4;  // newer than what is mapped
  EXPECT_FALSE(reaches(mine, theirs, 1, true));
  EXPECT_TRUE(reaches(mine, theirs, 1, false));
  theirs.in_place.block = 0;  // in none
  EXPECT_FALSE(reaches(mine, theirs, 1, false));
  theirs.process = mine.process;
  EXPECT_TRUE(reaches(mine, theirs, 1, true));
}

}  // namespace

int run_scenario(const std::string& scenario, int rank, int world, const GpuLibrary::Exchange& exchange) {
  if (scenario == "collectives") return scenario_collectives(rank, world, exchange);
  if (scenario == "death") return scenario_death(rank, world, exchange);
  if (scenario == "unmapped") return scenario_unmapped(rank, world, exchange);
  return 2;
}

}  // namespace ringtree::testing
