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
           {"rank=1,kind=kill,when=now", "'when=now' says nothing"}}) {
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
  EXPECT_FALSE(other.strikes("all_reduce"));

  Injection third("rank=0,seq=3,kind=drop", 0, 2);
  EXPECT_FALSE(third.strikes("all_reduce"));
  EXPECT_FALSE(third.strikes("send"));
  EXPECT_FALSE(third.strikes("barrier"));
  EXPECT_TRUE(third.strikes("all_reduce"));
  EXPECT_FALSE(third.strikes("all_reduce"));  // which now has the number 3

  Injection sends("rank=0,op=send,seq=2,kind=drop", 0, 2);
  EXPECT_FALSE(sends.strikes("send"));
  EXPECT_FALSE(sends.strikes("recv"));
  EXPECT_FALSE(sends.strikes("all_reduce"));
  EXPECT_TRUE(sends.strikes("send"));

  Injection every("rank=0,op=barrier,kind=drop", 0, 2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(every.strikes("barrier"));
    EXPECT_FALSE(every.strikes("all_reduce"));
  }
}

TEST(InjectedFaults, DelayTheCall) {
  Injection late("rank=0,kind=delay:30ms", 0, 1);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(late.strikes("all_reduce"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(30));
}

}  // namespace
}  // namespace ringtree
