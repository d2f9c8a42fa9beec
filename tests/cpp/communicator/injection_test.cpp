#include "communicator/injection.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/errors.h"

namespace ringtree {
namespace {

using Kind = Injection::Kind;

TEST(InjectedFaults, AreReadFieldByField) {
  const auto faults = Injection::parse(
      "rank=2,op=all_reduce,seq=137,kind=kill;rank=0,kind=stop;kind=drop,rank=1,op=send;;"
      "rank=3,seq=1,kind=delay:50ms");
  ASSERT_EQ(faults.size(), 4U);
  EXPECT_EQ(faults[0].rank, 2);
  EXPECT_EQ(faults[0].op, "all_reduce");
  EXPECT_EQ(faults[0].sequence, 137U);
  EXPECT_EQ(faults[0].kind, Kind::kill);
  EXPECT_EQ(faults[1].rank, 0);
  EXPECT_EQ(faults[1].op, "");
  EXPECT_EQ(faults[1].sequence, 0U);
  EXPECT_EQ(faults[1].kind, Kind::stop);
  EXPECT_EQ(faults[2].op, "send");
  EXPECT_EQ(faults[2].kind, Kind::drop);
  EXPECT_EQ(faults[3].kind, Kind::delay);
  EXPECT_EQ(faults[3].delay, std::chrono::milliseconds(50));
  EXPECT_EQ(Injection::parse("rank=0,kind=delay:7us")[0].delay, std::chrono::microseconds(7));
  EXPECT_EQ(Injection::parse("rank=0,kind=delay:2s")[0].delay, std::chrono::seconds(2));
  EXPECT_TRUE(Injection::parse("").empty());
}

TEST(InjectedFaults, ThatMakeNoSenseAreExplained) {
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {"rank=1", "kind is missing"},
           {"kind=kill", "rank is missing"},
           {"rank=one,kind=kill", "rank must be a number, not 'one'"},
           {"rank=1,kind=explode", "there is no kind 'explode'"},
           {"rank=1,kind=delay:5", "the delay needs a unit: us, ms or s"},
           {"rank=1,kind=delay:ms", "the delay must be a number, not ''"},
           {"rank=1,op=allreduce,kind=kill", "there is no call 'allreduce'"},
           {"rank=1,seq=0,kind=kill", "seq counts from 1"},
           {"rank=1,kind=kill,when=now", "'when=now' says nothing"},
           {"rank=1,kind=kill,at=once", "at must be middle, not 'once'"},
           {"rank=1,kind=drop,at=middle", "a call that has begun cannot be dropped"},
           {"rank=1,op=recv,kind=stop,at=middle", "at=middle is for collectives"}}) {
    try {
      Injection::parse("rank=0,kind=stop;" + text);
      FAIL() << text;
    } catch (const InvalidArgument& error) {
      const std::string expected = "RINGTREE_FAULT: '" + text + "': " + why + "; a fault is rank=2,op=";
      EXPECT_TRUE(std::string(error.what()).starts_with(expected)) << error.what();
    }
  }
  EXPECT_THROW(Injection("rank=4,kind=kill", 0, 4), InvalidArgument);
}

TEST(InjectedFaults, StrikeTheirRankAtTheirCallAndOnce) {
  Injection other("rank=1,kind=drop", 0, 2);
  EXPECT_FALSE(other.call("all_reduce").is_dropped);

  Injection third("rank=0,seq=3,kind=drop", 0, 2);
  EXPECT_FALSE(third.call("all_reduce").is_dropped);
  EXPECT_FALSE(third.call("send").is_dropped);
  EXPECT_FALSE(third.call("barrier").is_dropped);
  EXPECT_TRUE(third.call("all_reduce").is_dropped);
  EXPECT_FALSE(third.call("all_reduce").is_dropped);  // which now has the number 3

  Injection sends("rank=0,op=send,seq=2,kind=drop", 0, 2);
  EXPECT_FALSE(sends.call("send").is_dropped);
  EXPECT_FALSE(sends.call("recv").is_dropped);
  EXPECT_FALSE(sends.call("all_reduce").is_dropped);
  EXPECT_TRUE(sends.call("send").is_dropped);

  Injection every("rank=0,op=barrier,kind=drop", 0, 2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(every.call("barrier").is_dropped);
    EXPECT_FALSE(every.call("all_reduce").is_dropped);
  }
}

TEST(InjectedFaults, ForTheMiddleOfACallAreHandedToIt) {
  Injection late("rank=0,seq=2,kind=delay:1us,at=middle;rank=0,kind=stop,op=barrier,at=middle", 0, 2);
  EXPECT_TRUE(late.call("all_reduce").middle.empty());
  EXPECT_TRUE(late.call("send").middle.empty());
  const Injection::Fate second = late.call("all_reduce"), third = late.call("all_reduce");
  ASSERT_EQ(second.middle.size(), 1U);
  EXPECT_EQ(second.middle[0].kind, Kind::delay);
  EXPECT_FALSE(second.is_dropped);
  EXPECT_TRUE(third.middle.empty());
  EXPECT_EQ(late.call("barrier").middle.at(0).kind, Kind::stop);
}

TEST(InjectedFaults, DelayTheCall) {
  Injection late("rank=0,kind=delay:30ms", 0, 1);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(late.call("all_reduce").is_dropped);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(30));
}

}  // namespace
}  // namespace ringtree
