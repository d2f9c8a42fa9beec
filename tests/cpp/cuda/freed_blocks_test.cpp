// Ranks that are processes, whose arrays are freed while peers have them mapped, or before they have.
#include <emulator.h>
#include <gtest/gtest.h>
#include <test_support.h>

#include <atomic>

#include "cuda/direct_calls.h"
#include "cuda/fabric_process.h"
#include "cuda/order.h"
#include "cuda/process_ranks.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using ringtree_emulator::launched;
using ringtree_emulator::Stream;

/// An array that can be freed, and come again where it was.
class FreedArray {
 public:
  std::byte* get() const { return memory_.get(); }
  void allocate() { memory_ = allocate_on_device(kSmallestMappedBytes, "a test"); }
  /// Whether the new one lies where the old one was, which peers still have mapped.
  bool replace() {
    std::byte* const before = get();
    memory_.reset();
    allocate();
    return get() == before;
  }

 private:
  DeviceMemory<std::byte> memory_;
};

/// A peer closes what was there, and maps what is.
int scenario_replaced(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  FreedArray data;
  data.allocate();
  REQUIRE(becomes_direct(self, data.get(), data.get()))
  for (int seed = 1; seed < 4; ++seed) {
    self.exchange("");
    REQUIRE(data.replace())
    REQUIRE(works(self, data.get(), data.get(), kDirectCount, seed))
    REQUIRE(is_direct(self, data.get(), data.get(), kDirectCount, seed + 10))
  }
  REQUIRE(cudaGetLastError() == cudaSuccess)
  REQUIRE(ringtree_emulator::statistics().opened_handles == 2U * (static_cast<unsigned>(world) - 1))
  self.leave();
  return 0;
}

/// One call each with arrays that are gone when peers could map them: they hold up nothing.
int scenario_never_mapped(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const Buffers last(1, kSmallestMappedBytes);
  for (int call = 0; call < 3; ++call) {
    FreedArray data;
    data.allocate();
    REQUIRE(works(self, data.get(), data.get()))
    self.exchange("");
  }
  REQUIRE(becomes_direct(self, last.at(0), last.at(0)))
  self.leave();
  return 0;
}

/// An array that peers have mapped becomes another one on rank 0, which tells of it in its next call.
bool replaces_a_mapped_one(Process& self, FreedArray& data) {
  self.share_blocks();
  data.allocate();
  if (!becomes_direct(self, data.get(), data.get())) return false;
  if (self.rank == 0 && !data.replace()) return false;
  put_input(self, data.get(), kDirectCount, 1);
  return true;
}

/// Now that nothing runs any more.
bool maps_it(Process& self, const FreedArray& data) {
  return works(self, data.get(), data.get(), kDirectCount, 2) &&
         is_direct(self, data.get(), data.get(), kDirectCount, 3);
}

/// Rank 1 has an unfinished call when it learns that rank 0's array is another one. To close the old one then
/// would be to wait for that call.
int scenario_busy(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  const Stream stream;
  static std::atomic<int> gate{0};
  FreedArray data;
  REQUIRE(replaces_a_mapped_one(self, data))
  if (rank == 0) self.exchange("");  // rank 1's call comes before rank 0 has told of its array
  if (rank == 1) REQUIRE(launched(ringtree_emulator::wait_until_open, 1, 1, stream, &gate) == cudaSuccess)
  self.enqueue(zero_copy_task(kDirectCount, world), data.get(), data.get(), stream);
  if (rank == 1) self.exchange("");
  self.exchange("");
  self.enqueue(zero_copy_task(kDirectCount, world), data.get(), data.get(), stream);
  gate = 1;
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess)
  REQUIRE(self.fabric->fault().kind == GpuFault::none)
  REQUIRE(maps_it(self, data))
  self.leave();
  return 0;
}

/// The same, but the unfinished call is another communicator's.
int scenario_busy_elsewhere(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  const Stream stream;
  StreamOrder elsewhere;
  static std::atomic<int> gate{0};
  FreedArray data;
  REQUIRE(replaces_a_mapped_one(self, data))
  if (rank == 1) {
    REQUIRE(launched(ringtree_emulator::wait_until_open, 1, 1, stream, &gate) == cudaSuccess)
    elsewhere.leave(stream);
    self.exchange("");  // rank 0 has told of its array
  }
  self.enqueue(zero_copy_task(kDirectCount, world), data.get(), data.get(), nullptr);
  if (rank == 0) self.exchange("");
  gate = 1;
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess)
  REQUIRE(is_right(self, data.get(), kDirectCount, 1))
  REQUIRE(maps_it(self, data))
  self.leave();
  return 0;
}

/// What cannot be mapped is tried again, less and less often.
int scenario_refused(int rank, int world, const GpuLibrary::Exchange& exchange) {
  Process self{rank, world, exchange};
  self.share_blocks();
  const Buffers data(1, kSmallestMappedBytes);
  REQUIRE(works(self, data.at(0), data.at(0)))
  for (int call = 0; call < 6; ++call) {
    if (rank == 1) ringtree_emulator::fail_call("cudaIpcOpenMemHandle", cudaErrorMapBufferObjectFailed);
    self.exchange("");
    REQUIRE(works(self, data.at(0), data.at(0)))
  }
  ringtree_emulator::mend();
  self.exchange("");
  for (int call = 0; call < 8; ++call) REQUIRE(works(self, data.at(0), data.at(0)))
  REQUIRE(is_direct(self, data.at(0), data.at(0)))
  REQUIRE(cudaGetLastError() == cudaSuccess)
  self.leave();
  return 0;
}

TEST(FreedBlocks, WhatComesToLieWhereAMappedOneWasIsMapped) {
  for (const int world : {2, 3}) EXPECT_EQ(run_processes("replaced block", world), all_well(world));
}

TEST(FreedBlocks, WhatWasFreedBeforePeersMappedItHoldsUpNothing) {
  EXPECT_EQ(run_processes("never mapped", 2), all_well(2));
}

TEST(FreedBlocks, NothingIsClosedWhileACallRuns) {
  EXPECT_EQ(run_processes("busy", 2), all_well(2));
  EXPECT_EQ(run_processes("busy elsewhere", 2), all_well(2));
}

TEST(FreedBlocks, WhatCannotBeMappedIsTriedAgain) { EXPECT_EQ(run_processes("refused", 2), all_well(2)); }

const NamedScenario kReplaced("replaced block", &scenario_replaced);
const NamedScenario kNeverMapped("never mapped", &scenario_never_mapped);
const NamedScenario kBusy("busy", &scenario_busy);
const NamedScenario kBusyElsewhere("busy elsewhere", &scenario_busy_elsewhere);
const NamedScenario kRefused("refused", &scenario_refused);

}  // namespace
}  // namespace ringtree::testing
