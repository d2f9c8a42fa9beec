// Ranks that are processes, with arrays of chunks (cuMemCreate, cuMemMap): they reach each other's by file
// descriptor, and where they do not, calls go through the links.
#include <emulator.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "cuda/direct_calls.h"
#include "cuda/fabric_process.h"
#include "cuda/process_ranks.h"
#include "cuda/virtual_array.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

constexpr std::size_t kCount = kDirectCount;
constexpr std::size_t kBytes = kCount * kWidth;

/// Of this process, whose link begins so.
std::size_t descriptors_of(const std::string& what) {
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // that of this listing itself
    found += std::filesystem::read_symlink(entry, gone).string().starts_with(what) ? 1 : 0;
  }
  return found;
}

std::size_t chunk_descriptors() { return descriptors_of("/memfd:ringtree emulated chunk"); }

bool holds_nothing() {
  const ringtree_emulator::Statistics now = ringtree_emulator::statistics();
  return now.memory_handles == 0 && now.reservations == 0 && now.mapped_chunks == 0 &&
         now.opened_handles == 0 && chunk_descriptors() == 0 && descriptors_of("socket:") == 0;
}

int scenario_chunks(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  {
    const VirtualArray in({1, 2, 1}), out({2, 3});
    REQUIRE(becomes_direct(self, in.at(0), out.at(0)))
    REQUIRE(is_direct(self, in.at(12), out.at(28)))         // misaligned, in chunks that are known
    REQUIRE(is_direct(self, in.at(kBytes), in.at(kBytes)))  // in place
    const std::size_t border = kGranule - 404;
    REQUIRE(becomes_direct(self, in.at(border), out.at(kGranule + border)))
    constexpr std::size_t kOverThree = 2 * kGranule / kWidth + 202;
    REQUIRE(becomes_direct(self, in.at(border), out.at(border), kOverThree))
    const std::size_t exported = chunk_descriptors();
    REQUIRE(is_direct(self, in.at(3 * kGranule - 80), out.at(2 * kGranule - 16)))  // parts of the last
    REQUIRE(chunk_descriptors() == exported)
    const Buffers ordinary(1, kSmallestMappedBytes);
    REQUIRE(becomes_direct(self, ordinary.at(0), out.at(0)))
    REQUIRE(becomes_direct(self, in.at(0), ordinary.at(0)))
    self.leave();
  }
  self.fabric.reset();
  REQUIRE(holds_nothing())
  return 0;
}

/// Rank 0 has other memory at the same addresses, and the emulated driver gives numbers of handles again.
int scenario_replaced(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const VirtualArray in({1, 1}), out({1, 1});
  std::byte* const across = in.at(kGranule - 400);
  REQUIRE(becomes_direct(self, across, out.at(0)))
  for (int seed = 1; seed < 4; ++seed) {
    if (rank == 0) in.replace(static_cast<std::size_t>(seed % 2));
    REQUIRE(works(self, across, out.at(0), kCount, seed))
    REQUIRE(is_direct(self, across, out.at(0), kCount, seed + 10))
  }
  self.leave();
  return 0;
}

/// Each array has the addresses of the one before it, and peers map it until there are too many.
int scenario_freed(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  for (std::size_t i = 0; i < GpuBlockTable::kRuns; ++i) {
    const VirtualArray data({1});
    REQUIRE(becomes_direct(self, data.at(0), data.at(0), 100, static_cast<int>(i)))
    // Its chunk here and its peer's; those before it are free, whichever rank was first to publish.
    const ringtree_emulator::Statistics now = ringtree_emulator::statistics();
    REQUIRE(now.memory_handles <= 2 && now.mapped_chunks <= 2)
  }
  const VirtualArray data({1});
  REQUIRE(works(self, data.at(0), data.at(0)) && !is_direct(self, data.at(0), data.at(0)))
  const Buffers ordinary(1, kSmallestMappedBytes);
  REQUIRE(becomes_direct(self, ordinary.at(0), ordinary.at(0)))
  self.leave();
  return 0;
}

/// Made without a type of handle that others can import, on rank 1 alone.
int scenario_private(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const auto type = rank == 1 ? CU_MEM_HANDLE_TYPE_NONE : CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  const VirtualArray data({1}, type);
  for (int call = 0; call < 3; ++call) REQUIRE(works(self, data.at(0), data.at(0)))
  REQUIRE(!is_direct(self, data.at(0), data.at(0)))
  self.leave();
  return 0;
}

/// Nothing tells where in the memory of its handle such a chunk begins.
int scenario_repeated(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const VirtualArray data({1, 1});
  data.repeat(0);
  for (const std::size_t chunk : {0, 1}) {
    std::byte* const there = data.at(chunk * kGranule);
    for (int call = 0; call < 3; ++call) REQUIRE(works(self, there, there))
    REQUIRE(!is_direct(self, there, there))
  }
  self.leave();
  return 0;
}

/// One step after the other fails on rank 1: the call is none the worse for it, and a later one tries again.
int scenario_failing(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  for (const char* const function :
       {"cuMemGetAddressRange", "cuPointerGetAttribute", "cuMemRetainAllocationHandle",
        "cuMemGetAllocationPropertiesFromHandle", "cuMemExportToShareableHandle",
        "cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"}) {
    for (const int skipped : {0, 1}) {
      const VirtualArray data({1, 1});
      std::byte* const across = data.at(kGranule - 400);
      if (rank == 1) ringtree_emulator::fail_call(function, cudaErrorUnknown, skipped);
      for (int call = 0; call < 3; ++call) REQUIRE(works(self, across, across))
      ringtree_emulator::mend();
      REQUIRE(becomes_direct(self, across, across))
      REQUIRE(cudaGetLastError() == cudaSuccess)
    }
  }
  self.leave();
  self.fabric.reset();
  REQUIRE(holds_nothing())
  return 0;
}

/// Rank 1's has no function to retain a handle, and so cannot map what others offer.
int scenario_old_driver(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const VirtualArray data({1});
  constexpr int kOthers = 2 + 1;  // that are looked up before it
  if (rank == 1)
    ringtree_emulator::fail_call("cudaGetDriverEntryPointByVersion", cudaErrorSymbolNotFound, kOthers);
  for (int call = 0; call < 3; ++call) REQUIRE(works(self, data.at(0), data.at(0)))
  REQUIRE(!is_direct(self, data.at(0), data.at(0)))
  const Buffers ordinary(1, kSmallestMappedBytes);  // is no worse off for it
  REQUIRE(becomes_direct(self, ordinary.at(0), ordinary.at(0)))
  self.leave();
  return 0;
}

/// Rank 0 says wrong where its post is, as from another network namespace.
int scenario_stranger(int rank, int world, const GpuLibrary::Exchange& exchange) {
  const auto lie = [&](const std::string& own) {
    return exchange(rank == 0 && own.size() > 100 ? std::string(own.size(), '?') : own);
  };
  Process self{rank, world, exchange};
  self.exchange = lie;
  self.share_blocks();
  const VirtualArray data({1});
  for (int call = 0; call < 3; ++call) REQUIRE(works(self, data.at(0), data.at(0)))
  REQUIRE(!is_direct(self, data.at(0), data.at(0)))
  self.leave();
  return 0;
}

TEST(VirtualMemory, ArraysOfChunksAreReachedWhereverTheyBeginAndEnd) {
  for (const int world : {2, 3}) EXPECT_EQ(run_processes("chunks", world), all_well(world));
}

TEST(VirtualMemory, OtherMemoryAtTheSameAddressesIsNotTakenForWhatWasThere) {
  EXPECT_EQ(run_processes("replaced chunks", 2), all_well(2));
}

TEST(VirtualMemory, FreedArraysAreNotTakenForNewOnesAndTheirNumberIsBounded) {
  EXPECT_EQ(run_processes("freed chunks", 2), all_well(2));
}

TEST(VirtualMemory, WhatCannotBeExportedGoesThroughTheLinks) {
  EXPECT_EQ(run_processes("private chunks", 2), all_well(2));
}

TEST(VirtualMemory, ChunksThatAreNotAllOfTheirMemoryGoThroughTheLinks) {
  EXPECT_EQ(run_processes("repeated chunks", 2), all_well(2));
}

TEST(VirtualMemory, AStepThatFailsOnOneRankCostsNoCall) {
  EXPECT_EQ(run_processes("failing driver", 2), all_well(2));
}

TEST(VirtualMemory, ADriverWithoutTheFunctionsGoesThroughTheLinks) {
  EXPECT_EQ(run_processes("old driver", 2), all_well(2));
}

TEST(VirtualMemory, RanksThatCannotSendOneAnotherAnythingGoThroughTheLinks) {
  EXPECT_EQ(run_processes("stranger", 2), all_well(2));
}

const NamedScenario kChunks("chunks", &scenario_chunks);
const NamedScenario kReplaced("replaced chunks", &scenario_replaced);
const NamedScenario kFreed("freed chunks", &scenario_freed);
const NamedScenario kPrivate("private chunks", &scenario_private);
const NamedScenario kRepeated("repeated chunks", &scenario_repeated);
const NamedScenario kFailing("failing driver", &scenario_failing);
const NamedScenario kOldDriver("old driver", &scenario_old_driver);
const NamedScenario kStranger("stranger", &scenario_stranger);

}  // namespace
}  // namespace ringtree::testing
