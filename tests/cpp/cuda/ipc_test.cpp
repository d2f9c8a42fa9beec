// Ranks that are processes: they reach each other's link memory by CUDA IPC, or stage in memory of the host.
#include <emulator.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/errors.h"
#include "cuda/fabric_process.h"
#include "cuda/meeting.h"
#include "cuda/process_ranks.h"
#include "cuda/tasks.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

constexpr std::size_t kCount = 5003;

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
    // zero_copy, which finds that it cannot, and its fallback; or that alone, where it never can.
    kernels += reaches && !self.fabric->is_staged() ? 2 : 1;
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

/// Two GPUs that each process sees, and none reaches the memory of the other.
void use_one_of_two(int rank) {
  ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
  hardware.devices = 2;
  hardware.island = 1;
  ringtree_emulator::set_hardware(hardware);
  cudaSetDevice(rank % 2);
}

/// Each process sees its own alone.
void use_only_one(int rank, int island) {
  ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
  hardware.hidden = rank;
  hardware.island = island;
  ringtree_emulator::set_hardware(hardware);
}

/// All that a rank has beside its links is in its own memory, and is gone with it.
int check_staged(Process& self) {
  REQUIRE(self.fabric->is_staged() && self.fabric->bytes() == sizeof(DeviceRank))
  REQUIRE(self.transport.names() == 0)
  REQUIRE(ringtree_emulator::statistics().registrations == 1)
  REQUIRE(ringtree_emulator::statistics().opened_handles == 0)
  REQUIRE(check_collectives(self) == 0)
  self.fabric.reset();
  REQUIRE(ringtree_emulator::statistics().registrations == 0)
  return 0;
}

int scenario_no_peer_access(int rank, int world, const GpuLibrary::Exchange& exchange) {
  use_one_of_two(rank);
  Process self{rank, world, exchange};
  return check_staged(self);
}

/// As launchers start ranks: whether its kernels reach a peer's memory a process only learns by mapping it.
int scenario_unseen(int rank, int world, const GpuLibrary::Exchange& exchange) {
  use_only_one(rank, 1);
  Process self{rank, world, exchange};
  return check_staged(self);
}

int scenario_unseen_and_reached(int rank, int world, const GpuLibrary::Exchange& exchange) {
  use_only_one(rank, 0);
  Process self{rank, world, exchange};
  REQUIRE(!self.fabric->is_staged())
  return check_collectives(self);
}

/// The memory of a peer cannot be mapped by rank 1.
int scenario_unmapped(int rank, int world, const GpuLibrary::Exchange& exchange) {
  if (rank == 1) ringtree_emulator::fail_call("cudaIpcOpenMemHandle", cudaErrorMapBufferObjectFailed);
  Process self{rank, world, exchange};
  return check_staged(self);
}

/// Rank 1's driver has no CUDA IPC.
int scenario_unexported(int rank, int world, const GpuLibrary::Exchange& exchange) {
  if (rank == 1) ringtree_emulator::fail_call("cudaIpcGetMemHandle", cudaErrorNotSupported);
  Process self{rank, world, exchange};
  return check_staged(self);
}

/// Nor can rank 1's GPU use memory of the host.
int scenario_unregistered(int rank, int world, const GpuLibrary::Exchange& exchange) {
  use_one_of_two(rank);
  if (rank == 1) ringtree_emulator::fail_call("cudaHostRegister", cudaErrorMemoryAllocation);
  CountedTransport transport;
  std::string expected = "the links of a communicator in memory of the host: ";
  if (rank != 1)
    expected = "rank 1 could not open the CUDA fabric, so rank " + std::to_string(rank) +
               " did not either: " + expected;
  try {
    Fabric::of_rank(rank, world, exchange, transport);
  } catch (const TransportError& error) {
    const bool is_told = std::string(error.what()).find(expected) == 0;
    if (is_told && transport.names() == 0 && ringtree_emulator::statistics().registrations == 0) return 0;
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
  }
  return 1;
}

int scenario_death_without_peer_access(int rank, int world, const GpuLibrary::Exchange& exchange) {
  use_one_of_two(rank);
  return scenario_death(rank, world, exchange);
}

TEST(BetweenProcesses, CollectivesWorkAndZeroCopyTakesItsFallback) {
  for (const int world : {2, 3}) EXPECT_EQ(run_processes("collectives", world), all_well(world));
}

TEST(BetweenProcesses, AProcessThatHasDiedEndsTheWaitsOfTheOthers) {
  EXPECT_EQ(run_processes("death", 3), (std::vector{0, 7, 0}));
}

TEST(BetweenProcesses, WithoutPeerAccessAllRanksStageInMemoryOfTheHost) {
  for (const int world : {2, 3}) EXPECT_EQ(run_processes("no peer access", world), all_well(world));
}

TEST(BetweenProcesses, GpusThatAProcessDoesNotSeeAreTried) {
  EXPECT_EQ(run_processes("unseen", 2), all_well(2));
  EXPECT_EQ(run_processes("unseen and reached", 2), all_well(2));
}

TEST(BetweenProcesses, AllRanksStageIfOneCannotMapTheMemoryOfAnother) {
  EXPECT_EQ(run_processes("unmapped", 3), all_well(3));
  EXPECT_EQ(run_processes("unexported", 3), all_well(3));
}

TEST(BetweenProcesses, AFabricOpensOnAllRanksOrOnNone) {
  EXPECT_EQ(run_processes("unregistered", 3), all_well(3));
}

TEST(BetweenProcesses, AProcessThatHasDiedEndsTheWaitsOfThoseThatStage) {
  EXPECT_EQ(run_processes("death without peer access", 3), (std::vector{0, 7, 0}));
}

// A rank reaches a buffer of another process only in a block that it had mapped when it launched.
TEST(BetweenProcesses, BuffersAreReachedInBlocksThatAreMapped) {
  DeviceOffer mine{}, theirs{};
  mine.process = 1;
  mine.known[kAllocation][1] = 3;
  mine.known[kRun][1] = 1;
  theirs.process = 2;
  theirs.in_place = {64, 3, kAllocation};
  theirs.out_place = {0, 2, kAllocation};
  EXPECT_TRUE(reaches(mine, theirs, 1, true));
  theirs.out_place.block = 4;  // newer than what is mapped
  EXPECT_FALSE(reaches(mine, theirs, 1, true));
  EXPECT_TRUE(reaches(mine, theirs, 1, false));
  theirs.in_place.kind = kRun;  // which are numbered for themselves
  EXPECT_FALSE(reaches(mine, theirs, 1, false));
  theirs.in_place.block = 1;
  EXPECT_TRUE(reaches(mine, theirs, 1, false));
  theirs.in_place.block = 0;  // in none
  EXPECT_FALSE(reaches(mine, theirs, 1, false));
}

// And one of its own process on its own GPU, or on another one if peer access opens it.
TEST(WithinAProcess, BuffersOfOtherGpusAreReachedIfTheyArePlain) {
  DeviceOffer mine{}, theirs{};
  EXPECT_TRUE(reaches(mine, theirs, 1, true));
  theirs.device = 1;
  EXPECT_FALSE(reaches(mine, theirs, 1, false));
  theirs.in_is_plain = true;
  EXPECT_TRUE(reaches(mine, theirs, 1, false));
  EXPECT_FALSE(reaches(mine, theirs, 1, true));
  theirs.out_is_plain = true;
  EXPECT_TRUE(reaches(mine, theirs, 1, true));
}

const NamedScenario kCollectives("collectives", &scenario_collectives);
const NamedScenario kDeath("death", &scenario_death);
const NamedScenario kDeathWhileStaging("death without peer access", &scenario_death_without_peer_access);
const NamedScenario kNoPeerAccess("no peer access", &scenario_no_peer_access);
const NamedScenario kUnseen("unseen", &scenario_unseen);
const NamedScenario kUnseenAndReached("unseen and reached", &scenario_unseen_and_reached);
const NamedScenario kUnmapped("unmapped", &scenario_unmapped);
const NamedScenario kUnexported("unexported", &scenario_unexported);
const NamedScenario kUnregistered("unregistered", &scenario_unregistered);

}  // namespace
}  // namespace ringtree::testing
