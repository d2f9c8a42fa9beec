// Which way pieces are written to slots, on machines that the tests make up, and that all ways write the
// same.
#include "core/slot_ways.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/op.h"
#include "core/reduction.h"
#include "core/team.h"

namespace ringtree {
namespace {

constexpr std::size_t kSmall = 4096, kLarge = std::size_t{128} << 10U;

/// Nanoseconds a byte.
struct Machine {
  double cached, streamed, roaming;
  double of(SlotWay way) const {
    return way == SlotWay::cached ? cached : way == SlotWay::streamed ? streamed : roaming;
  }
};

constexpr Machine kUnderOneCache{1 / 30.0, 1 / 25.0, 1 / 20.0};
constexpr Machine kUnderTwoCaches{1 / 7.0, 1 / 27.0, 1 / 30.0};
constexpr Machine kBetweenSockets{1 / 2.2, 1 / 28.0, 1 / 4.0};

/// Writes pieces; how many of them went `way`.
int count_of(SlotWay way, WayChoice& choice, const Machine& machine, int pieces, std::size_t bytes = kLarge,
             int slow_every = 0) {
  int count = 0;
  for (int piece = 1; piece <= pieces; ++piece) {
    const SlotWay taken = choice.next();
    double ns = machine.of(taken) * static_cast<double>(bytes);
    if (slow_every != 0 && piece % slow_every == 0) ns += 4e6;  // another thread had the core
    choice.took(bytes, choice.is_timed() ? static_cast<std::uint64_t>(ns) : 0);
    count += taken == way ? 1 : 0;
  }
  return count;
}

/// The way that is quickest on `machine`, by much, and how many of the first 100 pieces at least go it.
struct Case {
  Machine machine;
  SlotWay best;
  int soon;
};
const Case kCases[] = {{kUnderOneCache, SlotWay::cached, 80},
                       {kUnderTwoCaches, SlotWay::roaming, 25},
                       {kBetweenSockets, SlotWay::streamed, 75}};

TEST(WayChoice, BeginsInTheCaches) { EXPECT_EQ(WayChoice().next(), SlotWay::cached); }

TEST(WayChoice, TakesTheQuickestWayOfEachMachine) {
  for (const auto& [machine, best, soon] : kCases) {
    WayChoice choice;
    EXPECT_GE(count_of(best, choice, machine, 100), soon);
    EXPECT_GE(count_of(best, choice, machine, 1000), 950);
    EXPECT_GE(count_of(best, choice, machine, 10'000), 9950) << "trials become rare";
    EXPECT_LT(count_of(best, choice, machine, 10'000), 10'000) << "and go on";
  }
}

TEST(WayChoice, RoamsOnlyWhereThereIsRoom) {
  for (const Machine& machine : {kUnderTwoCaches, kBetweenSockets}) {
    WayChoice choice(false);
    EXPECT_GE(count_of(SlotWay::streamed, choice, machine, 100), 75);
    EXPECT_EQ(count_of(SlotWay::roaming, choice, machine, 10'000), 0);
    EXPECT_GE(count_of(SlotWay::streamed, choice, machine, 10'000), 9950);
  }
}

// What their reader takes longer is more, by the byte, for small ones.
TEST(WayChoice, StreamsSmallPiecesOnlyWhereThatSavesMuch) {
  WayChoice near(false), far(false);
  EXPECT_GE(count_of(SlotWay::streamed, far, kBetweenSockets, 1000, kSmall), 940);
  count_of(SlotWay::streamed, near, kUnderTwoCaches, 200, kSmall);
  EXPECT_LE(count_of(SlotWay::streamed, near, kUnderTwoCaches, 1000, kSmall), 40);
}

TEST(WayChoice, FollowsAThreadThatMoves) {
  WayChoice choice;
  for (int turn = 0; turn < 3; ++turn)
    for (const auto& [machine, best, soon] : kCases) {
      if (best != SlotWay::cached)  // where each way is quicker than it was, only a trial can tell
        EXPECT_GE(count_of(best, choice, machine, 200), 100) << "slower writing is seen at once";
      count_of(best, choice, machine, 5000);
      EXPECT_GE(count_of(best, choice, machine, 1000), 990);
    }
  EXPECT_GE(count_of(SlotWay::cached, choice, kUnderOneCache, 1500), 500) << "also to where all is quicker";
}

TEST(WayChoice, DoesNotMindThatAThreadLosesItsCore) {
  for (const int every : {2, 3, 7})
    for (const auto& [machine, best, soon] : kCases) {
      WayChoice choice;
      count_of(best, choice, machine, 1000, kLarge, every);
      EXPECT_GE(count_of(best, choice, machine, 10'000, kLarge, every), 9950) << every;
    }
}

// A call writes some of its pieces more slowly than others, at the same places each time.
TEST(WayChoice, ComparesTheSamePartsOfCalls) {
  for (const int parts : {2, 4, 8, 32}) {
    WayChoice choice;
    int roaming = 0;
    for (int piece = 0; piece < 20'000; ++piece) {
      const double source = piece % parts == 0 ? 1 / 10.0 : 0;  // comes from memory
      const double ns = (kUnderTwoCaches.of(choice.next()) + source) * static_cast<double>(kLarge);
      roaming += choice.next() == SlotWay::roaming ? 1 : 0;
      choice.took(kLarge, choice.is_timed() ? static_cast<std::uint64_t>(ns) : 0);
    }
    EXPECT_GE(roaming, 19'800) << parts;
  }
}

TEST(SlotWays, ChooseApartForSmallAndLargeCopiesAndCombinations) {
  SlotWays ways;
  count_of(SlotWay::streamed, ways.of_copies(kLarge), kBetweenSockets, 100);
  EXPECT_EQ(ways.of_copies(kLarge).next(), SlotWay::streamed);
  EXPECT_EQ(ways.of_copies(kSmall).next(), SlotWay::cached);
  EXPECT_EQ(ways.of_combinations(kLarge).next(), SlotWay::cached);
}

/// Waits for nobody.
class Alone : public Waiter {
 public:
  std::uint32_t prepare() override { return 0; }
  void rest(std::uint32_t /*ticket*/, int /*peer*/) override {}
  void resume() noexcept override {}
  void disagree(int /*peer*/, std::uint64_t /*sent*/, std::uint64_t /*expected*/) override {}
  void lose(int /*peer*/, int /*error*/) override {}
};

/// What each way has to leave behind, between bytes that it may not touch.
class Puts : public ::testing::TestWithParam<SlotWay> {
 protected:
  static constexpr int kReader = 1, kWorld = 2;
  static constexpr std::size_t kRoom = 3 * kLarge;

  Puts() {
    constexpr Machine kMachines[] = {kUnderOneCache, kBetweenSockets, kUnderTwoCaches};
    const Machine& machine = kMachines[static_cast<unsigned>(GetParam())];
    for (SlotWays& towards : ways_)
      for (const std::size_t bytes : {kSmall, kLarge}) {
        count_of(GetParam(), towards.of_copies(bytes), machine, 1000, bytes);
        count_of(GetParam(), towards.of_combinations(bytes), machine, 1000, bytes);
      }
    EXPECT_EQ(ways_[kReader].of_copies(kSmall).next(), GetParam());
    EXPECT_EQ(ways_[kReader].of_combinations(kLarge).next(), GetParam());
  }

  /// `count` values at `offset`, between bytes 0xEE.
  template <class T>
  static std::vector<std::byte> framed(const std::vector<T>& values, std::size_t offset) {
    std::vector<std::byte> room(kRoom, std::byte{0xEE});
    std::memcpy(room.data() + offset, values.data(), values.size() * sizeof(T));
    return room;
  }

  std::vector<SlotWays> ways_{kWorld};
  Alone waiter_;
  Doorbell doorbells_[kWorld]{};
  Solo team_{waiter_, doorbells_, 0, kWorld, 1, 0, ways_.data()};
};

TEST_P(Puts, CopiesArriveWhateverTheirSizeAndPlace) {
  for (const std::size_t count : {1UL, 511UL, 512UL, 1000UL, 4099UL, kLarge / 4}) {
    std::vector<std::int32_t> values(count);
    std::iota(values.begin(), values.end(), 1);
    for (const std::size_t offset : {0UL, 4UL, 60UL, 64UL}) {
      std::vector<std::byte> one(kRoom, std::byte{0xEE}), all = one;
      auto to_one = team_.way_to(kReader, count * 4), to_all = team_.way_to_all(count * 4);
      team_.put(to_one, reinterpret_cast<std::int32_t*>(one.data() + offset), values.data(), count);
      team_.put(to_all, reinterpret_cast<std::int32_t*>(all.data() + offset), values.data(), count);
      EXPECT_EQ(one, framed(values, offset)) << count;
      EXPECT_EQ(all, framed(values, offset)) << count;
    }
  }
}

TEST_P(Puts, CombinationsAreThoseOfTheReduction) {
  const Reduction sum(DType::bfloat16, ReduceOp::sum, kWorld);
  using Element = std::uint16_t;
  for (const std::size_t count : {3UL, 1025UL, 2048UL, 10'001UL, kLarge / 2})
    for (const int n_sources : {2, 3}) {
      std::vector<std::vector<Element>> sources;
      std::vector<const void*> addresses;
      for (int i = 0; i < n_sources; ++i) {
        sources.emplace_back(count);
        for (std::size_t k = 0; k < count; ++k)
          sources.back()[k] = static_cast<Element>(0x3F80 + (k * 7 + static_cast<std::size_t>(i)) % 128);
      }
      for (const auto& source : sources) addresses.push_back(source.data());
      std::vector<Element> expected(count);
      sum(expected.data(), addresses.data(), n_sources, count);
      std::vector<std::byte> slot(kRoom, std::byte{0xEE});
      auto way = team_.combining_way_to(kReader, count * sizeof(Element));
      team_.put_combined(way, reinterpret_cast<Element*>(slot.data()), addresses.data(), n_sources, count,
                         sum);
      EXPECT_EQ(slot, framed(expected, 0)) << count << " of " << n_sources;
    }
}

TEST_P(Puts, ASlotWithPartsGoesRoundAsSoonAsOnePartDoes) {
  EXPECT_EQ(team_.roams_to_any(kLarge), GetParam() == SlotWay::roaming);
  EXPECT_FALSE(team_.roams_to_any(kChosenBytes - 1)) << "no choice";
  ways_[kReader] = SlotWays();
  EXPECT_FALSE(team_.roams_to_any(kLarge)) << "to all is another choice";
}

std::string name_of(SlotWay way) {
  return way == SlotWay::cached ? "cached" : way == SlotWay::streamed ? "streamed" : "roaming";
}

INSTANTIATE_TEST_SUITE_P(EachWay, Puts,
                         ::testing::Values(SlotWay::cached, SlotWay::streamed, SlotWay::roaming),
                         [](const auto& way) { return name_of(way.param); });

}  // namespace
}  // namespace ringtree
