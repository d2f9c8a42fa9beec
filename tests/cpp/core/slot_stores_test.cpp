// Which way pieces are written to slots, on machines that the tests make up, and that both ways write the
// same.
#include "core/slot_stores.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <numeric>
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
  double cached, streamed;
};

constexpr Machine kUnderOneCache{1 / 30.0, 1 / 25.0};
constexpr Machine kUnderTwoCaches{1 / 7.0, 1 / 27.0};
constexpr Machine kBetweenSockets{1 / 2.2, 1 / 28.0};

/// Writes pieces; how many of them were streamed.
int streamed_of(StoreChoice& choice, const Machine& machine, int pieces, std::size_t bytes = kLarge,
                int slow_every = 0) {
  int streamed = 0;
  for (int piece = 1; piece <= pieces; ++piece) {
    const bool streams = choice.next() == Store::streamed;
    double ns = (streams ? machine.streamed : machine.cached) * static_cast<double>(bytes);
    if (slow_every != 0 && piece % slow_every == 0) ns += 4e6;  // another thread had the core
    choice.took(bytes, choice.is_timed() ? static_cast<std::uint64_t>(ns) : 0);
    streamed += streams ? 1 : 0;
  }
  return streamed;
}

TEST(StoreChoice, BeginsInTheCaches) { EXPECT_EQ(StoreChoice().next(), Store::cached); }

TEST(StoreChoice, StaysInTheCachesWhereLinesComeQuickly) {
  StoreChoice choice;
  EXPECT_LE(streamed_of(choice, kUnderOneCache, 1000), 20);
  EXPECT_LE(streamed_of(choice, kUnderOneCache, 10'000), 50) << "trials become rare";
  EXPECT_GT(streamed_of(choice, kUnderOneCache, 10'000), 0) << "and go on";
}

TEST(StoreChoice, StreamsSoonWhereLinesComeSlowly) {
  for (const Machine& machine : {kUnderTwoCaches, kBetweenSockets}) {
    StoreChoice choice;
    EXPECT_GE(streamed_of(choice, machine, 100), 75);
    EXPECT_GE(streamed_of(choice, machine, 10'000), 9940);
  }
}

// What their reader takes longer is more, by the byte, for small ones.
TEST(StoreChoice, StreamsSmallPiecesOnlyWhereThatSavesMuch) {
  StoreChoice near, far;
  EXPECT_LE(streamed_of(near, kUnderTwoCaches, 1000, kSmall), 20);
  EXPECT_GE(streamed_of(far, kBetweenSockets, 1000, kSmall), 950);
}

TEST(StoreChoice, FollowsAThreadThatMoves) {
  StoreChoice choice;
  for (int turn = 0; turn < 3; ++turn) {
    streamed_of(choice, kUnderOneCache, 5000);
    EXPECT_LE(streamed_of(choice, kUnderOneCache, 1000), 10);
    EXPECT_GE(streamed_of(choice, kBetweenSockets, 200), 100) << "slower writing is seen at once";
    streamed_of(choice, kBetweenSockets, 5000);
    EXPECT_GE(streamed_of(choice, kBetweenSockets, 1000), 990);
  }
}

TEST(StoreChoice, DoesNotMindThatAThreadLosesItsCore) {
  for (const int every : {2, 3, 7}) {
    StoreChoice near, far;
    streamed_of(near, kUnderOneCache, 1000, kLarge, every);
    EXPECT_LE(streamed_of(near, kUnderOneCache, 10'000, kLarge, every), 700);
    streamed_of(far, kBetweenSockets, 1000, kLarge, every);
    EXPECT_GE(streamed_of(far, kBetweenSockets, 10'000, kLarge, every), 9300);
  }
}

TEST(SlotStores, ChooseApartForSmallAndLargeCopiesAndCombinations) {
  SlotStores stores;
  streamed_of(stores.of_copies(kLarge), kBetweenSockets, 100);
  EXPECT_EQ(stores.of_copies(kLarge).next(), Store::streamed);
  EXPECT_EQ(stores.of_copies(kSmall).next(), Store::cached);
  EXPECT_EQ(stores.of_combinations(kLarge).next(), Store::cached);
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

/// What both ways have to leave behind, between bytes that they may not touch.
class Puts : public ::testing::TestWithParam<Store> {
 protected:
  static constexpr int kReader = 1, kWorld = 2;
  static constexpr std::size_t kRoom = 3 * kLarge;

  Puts() {
    if (GetParam() == Store::cached) return;
    for (SlotStores& towards : stores_)
      for (const std::size_t bytes : {kSmall, kLarge}) {
        streamed_of(towards.of_copies(bytes), kBetweenSockets, 1000, bytes);
        streamed_of(towards.of_combinations(bytes), kBetweenSockets, 1000, bytes);
      }
    EXPECT_EQ(stores_[kReader].of_copies(kSmall).next(), Store::streamed);
    EXPECT_EQ(stores_[kReader].of_combinations(kLarge).next(), Store::streamed);
  }

  /// `count` values at `offset`, between bytes 0xEE.
  template <class T>
  static std::vector<std::byte> framed(const std::vector<T>& values, std::size_t offset) {
    std::vector<std::byte> room(kRoom, std::byte{0xEE});
    std::memcpy(room.data() + offset, values.data(), values.size() * sizeof(T));
    return room;
  }

  std::vector<SlotStores> stores_{kWorld};
  Alone waiter_;
  Doorbell doorbells_[kWorld]{};
  Solo team_{waiter_, doorbells_, 0, kWorld, 1, 0, stores_.data()};
};

TEST_P(Puts, CopiesArriveWhateverTheirSizeAndPlace) {
  for (const std::size_t count : {1UL, 511UL, 512UL, 1000UL, 4099UL, kLarge / 4}) {
    std::vector<std::int32_t> values(count);
    std::iota(values.begin(), values.end(), 1);
    for (const std::size_t offset : {0UL, 4UL, 60UL, 64UL}) {
      std::vector<std::byte> one(kRoom, std::byte{0xEE}), all = one;
      team_.put(kReader, reinterpret_cast<std::int32_t*>(one.data() + offset), values.data(), count);
      team_.put_for_all(reinterpret_cast<std::int32_t*>(all.data() + offset), values.data(), count);
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
      team_.put_combined(kReader, reinterpret_cast<Element*>(slot.data()), addresses.data(), n_sources, count,
                         sum);
      EXPECT_EQ(slot, framed(expected, 0)) << count << " of " << n_sources;
    }
}

INSTANTIATE_TEST_SUITE_P(BothWays, Puts, ::testing::Values(Store::cached, Store::streamed),
                         [](const auto& way) { return way.param == Store::cached ? "cached" : "streamed"; });

}  // namespace
}  // namespace ringtree
