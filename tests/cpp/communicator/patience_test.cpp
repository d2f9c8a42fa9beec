// What a rank that waits tells of itself, step by step in one thread.
#include "communicator/patience.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "communicator/fault.h"
#include "core/errors.h"

namespace ringtree {
namespace {

struct NoConcern : Concern {
  std::string describe() const override { return "a call"; }
  void check_agreement() const override {}
  bool needs(int) const override { return true; }
  void give_up(int, double) const override {}
  void disagree(int, std::uint64_t, std::uint64_t) const override {}
};

using Shared = std::unique_ptr<std::byte, void (*)(void*)>;

/// What two ranks of this process share, without the links.
Shared shared() {
  const std::size_t bytes = Segment::head_bytes(2);
  Shared memory(static_cast<std::byte*>(std::aligned_alloc(kCacheLine, bytes)), std::free);
  std::memset(memory.get(), 0, bytes);
  for (const int rank : {0, 1}) {
    Board& board = Segment(memory.get(), 2).board(rank);
    board.pid = getpid();
    board.state = Board::present;
  }
  return memory;
}

/// Rank 0 of two, and a folder for what it leaves behind.
class Waiting : public testing::Test {
 protected:
  Waiting() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ringtree-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    setenv("RINGTREE_TRACE_DIR", folder_.c_str(), 1);
    segment_.hall().name[0] = 'x';
    patience_.begin(concern_);
  }
  ~Waiting() override {
    unsetenv("RINGTREE_TRACE_DIR");
    std::filesystem::remove_all(folder_);
  }

  /// Until it has slept, or only for the first of its steps.
  void wait_for_rank_1(bool until_asleep) {
    do patience_.rest(patience_.prepare(), 1);
    while (until_asleep && awaited() == 0);
  }
  void learn_of_a_fault() {
    raise_fault(segment_, ErrorKind::Aborted, {1}, "rank 1 has had enough.");
    // It looks once more at what it waits for, which may have come before the fault.
    EXPECT_NO_THROW(patience_.rest(patience_.prepare(), 1));
    EXPECT_THROW(patience_.rest(patience_.prepare(), 1), Aborted);
  }
  std::uint64_t awaited() { return segment_.board(0).awaited; }
  std::string dumped() {
    std::ifstream file(folder_ / "x-0.json");
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  Shared memory_ = shared();
  std::filesystem::path folder_;
  Segment segment_{memory_.get(), 2};
  Liveness liveness_{segment_, 0};
  std::atomic<double> timeout_seconds_{60};
  NoConcern concern_;
  Patience patience_{segment_, liveness_, 0, timeout_seconds_};
};

constexpr const char* kFirstWaitsForSecond = R"("waits_for":1)";

TEST_F(Waiting, ASleeperThatIsWokenByAFaultLeavesBehindWhomItWaitedFor) {
  wait_for_rank_1(true);
  learn_of_a_fault();
  EXPECT_NE(dumped().find(kFirstWaitsForSecond), std::string::npos) << dumped();
  EXPECT_EQ(awaited(), 0);
}

TEST_F(Waiting, WhoHasNotSleptYetLeavesItBehindToo) {
  wait_for_rank_1(false);
  learn_of_a_fault();
  EXPECT_NE(dumped().find(kFirstWaitsForSecond), std::string::npos) << dumped();
  EXPECT_EQ(awaited(), 0);
}

}  // namespace
}  // namespace ringtree
