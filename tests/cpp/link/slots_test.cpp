// The protocols of lanes and windows between two and more threads, without a communicator.
#include "link/slots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "core/team.h"
#include "link/layout.h"
#include "link/links.h"

namespace ringtree {
namespace {

/// Yields instead of resting: nothing fails in these tests.
class Yielding : public Waiter {
 public:
  std::uint32_t prepare() override { return 0; }
  void rest(std::uint32_t /*ticket*/, int /*peer*/) override { std::this_thread::yield(); }
  void resume() noexcept override {}
  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) override {
    throw std::runtime_error("peer " + std::to_string(peer) + " sent " + std::to_string(sent) +
                             ", expected " + std::to_string(expected));
  }
  void lose(int peer, int error) override {
    throw std::runtime_error("lost peer " + std::to_string(peer) + ": errno " + std::to_string(error));
  }
};

constexpr std::uint64_t kDigest = 42;

struct LaneMemory {
  explicit LaneMemory(SlotShape shape) : shape(shape), memory(lane_bytes(shape) + kCacheLine) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    begin = memory.data() + (kCacheLine - address % kCacheLine) % kCacheLine;
  }
  SlotShape shape;
  std::vector<std::byte> memory;
  std::byte* begin;
  LaneCursor sent{}, received{};
  Doorbell doorbells[2]{};
};

TEST(Lane, CarriesMessagesOfEverySizeInOrderThroughFewSlots) {
  for (const int slots : {1, 2, 4}) {
    LaneMemory lane({slots, 256, 1});
    const std::size_t messages = 2000;
    const auto size_of_message = [](std::size_t i) { return i * 13 % 257; };
    std::thread sending([&] {
      Yielding waiter;
      Solo team(waiter, lane.doorbells, 0, 2, 100);
      Sender to(lane.begin, lane.shape, lane.sent, kDigest, 1);
      for (std::size_t i = 0; i < messages; ++i) {
        const Claim slot = to.claim(team, size_of_message(i));
        std::memset(slot.data, static_cast<int>(i % 251), size_of_message(i));
        to.publish(team, slot, size_of_message(i));
      }
    });
    Yielding waiter;
    Solo team(waiter, lane.doorbells, 1, 2, 100);
    Receiver from(lane.begin, lane.shape, lane.received, kDigest, 0);
    for (std::size_t i = 0; i < messages; ++i) {
      const Claim arrived = from.arrival(team, size_of_message(i));
      for (std::size_t b = 0; b < size_of_message(i); ++b)
        ASSERT_EQ(arrived.data[b], static_cast<std::byte>(i % 251)) << "message " << i;
      from.release(team, arrived);
    }
    sending.join();
  }
}

// Whether a piece lies where the last one lay or elsewhere in its slot, is the writer's affair.
TEST(Lane, CarriesPiecesWhoseWriterGoesRoundOrNot) {
  constexpr std::size_t kPiece = 256;
  constexpr int kRooms = 4;
  LaneMemory lane({2, kPiece, kRooms});
  const auto size_of_message = [](std::size_t i) { return 1 + i * 37 % kPiece; };
  const auto roams = [](std::size_t i) { return i % 5 != 0; };
  Yielding waiter;
  Solo team(waiter, lane.doorbells, 0, 2, 1);
  Sender to(lane.begin, lane.shape, lane.sent, kDigest, 1);
  Receiver from(lane.begin, lane.shape, lane.received, kDigest, 0);
  std::set<const std::byte*> places;
  for (std::size_t i = 0; i < 3000; ++i) {
    const std::size_t size = size_of_message(i);
    const Claim slot = to.claim(team, size, roams(i));
    std::memset(slot.data, static_cast<int>(i % 251), size);
    to.publish(team, slot, size);
    const Claim arrived = from.arrival(team, size);
    ASSERT_EQ(arrived.data, slot.data);
    ASSERT_EQ(std::count(arrived.data, arrived.data + size, static_cast<std::byte>(i % 251)),
              static_cast<std::ptrdiff_t>(size));
    if (size > sizeof(SlotHeader::small)) {
      const std::byte* room = reinterpret_cast<std::byte*>(slot.header + 1);
      ASSERT_GE(slot.data, room);
      ASSERT_LE(slot.data + size, room + lane.shape.room_bytes());
      ASSERT_EQ((slot.data - room) % static_cast<std::ptrdiff_t>(kCacheLine), 0);
      if (!roams(i)) ASSERT_EQ(slot.data, room);
      places.insert(slot.data);
    }
    from.release(team, arrived);
  }
  EXPECT_GT(places.size(), lane.shape.room_bytes() / kCacheLine) << "of twice as many";
}

TEST(SlotShape, GoingRoundComesBackWhenTheRoomIsUsedUp) {
  const SlotShape shape{4, 128 << 10U, 4};
  for (const std::size_t bytes : {std::size_t{2048}, std::size_t{5000}, shape.slot_bytes}) {
    const std::size_t each = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    const std::uint64_t rounds = shape.room_bytes() / each;
    std::set<std::uint32_t> offsets;
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const std::uint32_t offset = shape.offset_of(round * 4 + 3, bytes);
      EXPECT_LE(offset + bytes, shape.room_bytes());
      offsets.insert(offset);
    }
    EXPECT_EQ(offsets.size(), rounds);
    EXPECT_EQ(shape.offset_of(rounds * 4, bytes), shape.offset_of(0, bytes));
  }
}

TEST(Lane, SenderHasCreditForItsSlotsAndNoMore) {
  LaneMemory lane({4, 64, 1});
  Yielding waiter;
  Solo team(waiter, lane.doorbells, 0, 2, 1);
  Sender to(lane.begin, lane.shape, lane.sent, kDigest, 1);
  Receiver from(lane.begin, lane.shape, lane.received, kDigest, 0);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(to.ready(acquire));
    to.publish(team, to.claim(team, 8), 8);
  }
  EXPECT_FALSE(to.ready(acquire));
  from.release(team, from.arrival(team, 8));
  EXPECT_TRUE(to.ready(acquire));
}

TEST(Lane, RefusesAMessageOfAnotherCallOrSize) {
  LaneMemory lane({4, 64, 1});
  Yielding waiter;
  Solo team(waiter, lane.doorbells, 0, 2, 1);
  Sender to(lane.begin, lane.shape, lane.sent, kDigest, 1);
  to.publish(team, to.claim(team, 8), 8);
  Receiver other_call(lane.begin, lane.shape, lane.received, kDigest + 1, 0);
  EXPECT_THROW(other_call.arrival(team, 8), std::runtime_error);
  Receiver other_size(lane.begin, lane.shape, lane.received, kDigest, 0);
  EXPECT_THROW(other_size.arrival(team, 16), std::runtime_error);
  EXPECT_NO_THROW(other_size.arrival(team, 8));
}

TEST(SlotHeader, CarriesSmallPiecesInItsOwnCacheLine) {
  static_assert(sizeof(SlotHeader) == kCacheLine);
  SlotHeader slot[4]{};  // one with a payload of three lines
  constexpr std::size_t kSmall = sizeof(slot[0].small);
  EXPECT_EQ(slot[0].data(kSmall), slot[0].small);
  EXPECT_EQ(slot[0].data(kSmall + 1), reinterpret_cast<std::byte*>(&slot[1]));
  slot[0].offset = 2 * kCacheLine;
  EXPECT_EQ(slot[0].data(kSmall), slot[0].small);
  EXPECT_EQ(slot[0].data(kSmall + 1), reinterpret_cast<std::byte*>(&slot[3]));
}

TEST(Window, EveryReaderSeesEveryPostThoughSomeRanksOnlyWrite) {
  constexpr int kWorld = 4;
  constexpr std::uint64_t kTurns = 500;
  const SlotShape shape{2, 256, 2};
  std::vector<std::byte> memory(kWorld * shape.bytes() + kCacheLine);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  std::byte* windows = memory.data() + (kCacheLine - address % kCacheLine) % kCacheLine;
  const auto size_of_post = [](std::uint64_t turn) { return sizeof(turn) + turn % 249; };
  std::vector<Counter> consumed(kWorld);
  std::vector<Doorbell> doorbells(kWorld);

  std::vector<std::thread> threads;
  for (int rank = 0; rank < kWorld; ++rank) {
    threads.emplace_back([&, rank] {
      Yielding waiter;
      WindowCursor cursor{};
      Solo team(waiter, doorbells.data(), rank, kWorld, 100);
      Window window({windows, shape.bytes(), consumed.data()}, shape, cursor, kDigest, rank, kWorld);
      for (std::uint64_t turn = 0; turn < kTurns; ++turn) {
        const int writer = static_cast<int>(turn % 3);  // rank 3 never writes, a writer does not read
        if (rank == writer) {
          const Claim slot = window.claim(team, size_of_post(turn), turn % 4 < 2);
          std::memcpy(slot.data, &turn, sizeof(turn));
          window.publish(team, slot, size_of_post(turn));
        } else {
          std::uint64_t seen = 0;
          std::memcpy(&seen, window.view(team, writer, size_of_post(turn)), sizeof(turn));
          ASSERT_EQ(seen, turn);
        }
        window.done(team);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(LinkLayout, PartsDoNotOverlapAndStayOnCacheLines) {
  for (int world = 1; world <= 64; ++world)
    for (const bool roomy : {false, true}) {
      const LinkLayout layout = LinkLayout::of(world, roomy);
      ASSERT_EQ(layout.windows_offset() % kCacheLine, 0U);
      ASSERT_EQ(layout.window.stride() % kCacheLine, 0U);
      std::size_t end = layout.lanes_offset();
      for (int from = 0; from < world; ++from)
        for (int to = 0; to < world; ++to) {
          if (from == to) continue;
          ASSERT_EQ(layout.lane_offset(from, to), end);
          ASSERT_EQ(end % kCacheLine, 0U);
          end += lane_bytes(layout.lane);
        }
      ASSERT_EQ(layout.mail_offset(), end);
      ASSERT_LE(layout.bytes(), std::size_t{320} << 20) << "world " << world;
    }
}

TEST(LinkLayout, RoomTakesMoreMemoryAndChangesNoPiece) {
  for (int world = 1; world <= 64; ++world) {
    const LinkLayout tight = LinkLayout::of(world), roomy = LinkLayout::of(world, true);
    ASSERT_EQ(roomy.lane.slot_bytes, tight.lane.slot_bytes);
    ASSERT_EQ(roomy.window.slot_bytes, tight.window.slot_bytes);
    ASSERT_EQ(roomy.mail.stride(), tight.mail.stride());
    ASSERT_EQ(roomy.bytes() > tight.bytes(), world <= 8) << "world " << world;
    ASSERT_LE(roomy.bytes(), std::max(tight.bytes(), std::size_t{51} << 20)) << "world " << world;
  }
}

}  // namespace
}  // namespace ringtree
