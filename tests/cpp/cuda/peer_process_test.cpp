#include "cuda/peer_process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace ringtree::testing {
namespace {

// This process is as good as a peer's: the rules are the same.
TEST(PeerProcess, GivesCopiesOfItsDescriptors) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const Descriptor reading(ends[0]);
  {
    const Descriptor writing(ends[1]);
    const Descriptor copy = PeerProcess(mark_of_this_process()).take(writing.number());
    ASSERT_GE(copy.number(), 0);
    EXPECT_NE(copy.number(), writing.number());
    EXPECT_EQ(write(copy.number(), "x", 1), 1);
  }
  char got[2];
  EXPECT_EQ(read(reading.number(), got, 2), 1);
  EXPECT_EQ(read(reading.number(), got, 2), 0) << "a copy is open yet";
}

TEST(PeerProcess, HasNothingToTakeUnlessItBearsTheMark) {
  ProcessMark other = mark_of_this_process();
  ++other.word;
  EXPECT_LT(PeerProcess(other).take(0).number(), 0);
  other = mark_of_this_process();
  other.address = 8;  // where nothing is
  EXPECT_LT(PeerProcess(other).take(0).number(), 0);
}

TEST(PeerProcess, HasNothingToTakeOnceItIsGone) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ProcessMark gone = mark_of_this_process();
  gone.pid = child;
  EXPECT_LT(PeerProcess(gone).take(0).number(), 0);
}

TEST(PeerProcess, HasNoDescriptorThatIsNotOpen) {
  EXPECT_LT(PeerProcess(mark_of_this_process()).take(1 << 20).number(), 0);
}

}  // namespace
}  // namespace ringtree::testing
