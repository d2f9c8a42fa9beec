// send and recv on the device: what arrives, in which order, and that circles of ranks come through.
#include "cuda/messages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/fabric_ranks.h"
#include "cuda/gpu_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

using MessagesOnDevice = OnFabrics;

constexpr double kSeconds = 60;

GpuLetter letter(const void* data, std::size_t count, int peer) {
  return {const_cast<void*>(data), count * kWidth, count, peer};
}

/// One call of messages, numbered as the communicator does it.
struct Exchange {
  std::vector<GpuLetter> outgoing{}, incoming{};

  void on(const FabricRank& self, std::uint64_t number) const {
    self.fabric().exchange(outgoing, incoming, kGpuMessage | number, kSeconds, self.stream());
  }
};

void expect_arrived(const FabricRank& self, std::uint64_t number) {
  EXPECT_EQ(cudaStreamSynchronize(self.stream()), cudaSuccess);
  EXPECT_EQ(self.fabric().fault().kind, GpuFault::none);
  EXPECT_EQ(self.fabric().progress().finished_messages, kGpuMessage | number);
}

/// Every rank sends a part of its own to each other one, all in one call.
void exchange_all(int world, std::size_t count) {
  const auto ranks = static_cast<std::size_t>(world);
  const Buffers in(world, ranks * count * kWidth), out(world, ranks * count * kWidth);
  out.poison();
  for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, ranks * count));
  run_ranks(world, [&](FabricRank& self) {
    Exchange call;
    for (int peer = 0; peer < world; ++peer) {
      const std::size_t part = static_cast<std::size_t>(peer) * count * kWidth;
      if (peer == self.rank()) continue;
      call.outgoing.push_back(letter(in.at(self.rank()) + part, count, peer));
      call.incoming.push_back(letter(out.at(self.rank()) + part, count, peer));
    }
    call.on(self, 1);
    expect_arrived(self, 1);
  });
  for (int rank = 0; rank < world; ++rank) {
    const auto arrived = out.get<std::int32_t>(rank);
    for (int peer = 0; peer < world; ++peer) {
      if (peer == rank) continue;
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(arrived[static_cast<std::size_t>(peer) * count + i],
                  value_of(peer, static_cast<std::size_t>(rank) * count + i));
    }
  }
}

TEST_F(MessagesOnDevice, EveryoneToEveryoneInOneCall) {
  for (const std::string protocol : {"simple", "packets", "lines", ""})
    for (const int world : {2, 3, 5, 8})
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{3001}}) {
        SCOPED_TRACE(protocol + ", " + std::to_string(world) + " ranks, " + std::to_string(count) +
                     " elements");
        const OrderedProtocol ordered(protocol);
        exchange_all(world, count);
      }
}

TEST_F(MessagesOnDevice, LettersThatGoRoundTheSlots) {
  exchange_all(2, kIsSanitized ? 200'000 : 1'500'000);
  exchange_all(3, kIsSanitized ? 150'000 : 500'000);
}

TEST_F(MessagesOnDevice, AreNotHeldUpByOneMultiprocessorARank) {
  set_multiprocessors(
      8);  // a channel for each rank, and so two blocks, of half the lanes, on one multiprocessor
  ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
  hardware.blocks_per_multiprocessor = 2;
  ringtree_emulator::set_hardware(hardware);
  exchange_all(8, 50'000);
}

TEST_F(MessagesOnDevice, KeepTheirOrderBetweenTwoRanks) {
  constexpr std::size_t kLetters = 7, kCount = 4001;
  const Buffers data(2, kLetters * kCount * kWidth);
  data.put(0, values_of(0, kLetters * kCount));
  run_ranks(2, [&](FabricRank& self) {
    Exchange call;
    for (std::size_t i = 0; i < kLetters; ++i)
      (self.rank() == 0 ? call.outgoing : call.incoming)
          .push_back(letter(data.at(self.rank()) + i * kCount * kWidth, kCount - i, 1 - self.rank()));
    call.on(self, 1);
    expect_arrived(self, 1);
  });
  const auto sent = data.get<std::int32_t>(0), arrived = data.get<std::int32_t>(1);
  for (std::size_t i = 0; i < kLetters; ++i)
    for (std::size_t j = 0; j < kCount - i; ++j) ASSERT_EQ(arrived[i * kCount + j], sent[i * kCount + j]);
}

TEST_F(MessagesOnDevice, TakeTurnsWithCollectives) {
  constexpr std::size_t kCount = 20'000;
  constexpr int kRounds = kIsSanitized ? 3 : 20, kWorld = 3;
  const Buffers data(kWorld, kCount * kWidth), sums(kWorld, kCount * kWidth);
  for (int rank = 0; rank < kWorld; ++rank) data.put(rank, values_of(rank, kCount));
  run_ranks(kWorld, [&](FabricRank& self) {
    const int rank = self.rank();
    for (int round = 0; round < kRounds; ++round) {
      self.launch(all_reduce_task("ring", kCount, kWorld), data.at(rank), sums.at(rank));
      Exchange call;  // 0 tells 1, and 2 looks on
      if (rank == 0) call.outgoing.push_back(letter(data.at(0), kCount, 1));
      if (rank == 1) call.incoming.push_back(letter(sums.at(1), kCount, 0));
      if (rank < 2) call.on(self, static_cast<std::uint64_t>(round) + 1);
    }
    self.expect_success();
    EXPECT_EQ(self.fabric().progress().ended_together, static_cast<std::uint64_t>(kRounds));
  });
  EXPECT_EQ(sums.get<std::int32_t>(1), values_of(0, kCount));
  EXPECT_EQ(sums.get<std::int32_t>(2), sum_of(kWorld, kCount));
}

TEST_F(MessagesOnDevice, AreTakenByTheLinksBeforeTheirReceiverComes) {
  for (const std::size_t count :
       {std::size_t{1}, std::size_t{5'000}, std::size_t{50'000}, std::size_t{120'000}}) {
    SCOPED_TRACE(count);
    const Buffers in(2, count * kWidth), out(2, count * kWidth);
    for (int rank = 0; rank < 2; ++rank) in.put(rank, values_of(rank, count));
    run_ranks(2, [&](FabricRank& self) {
      const int rank = self.rank();
      Exchange{.outgoing = {letter(in.at(rank), count, 1 - rank)}}.on(self, 1);
      Exchange{.incoming = {letter(out.at(rank), count, 1 - rank)}}.on(self, 2);
      expect_arrived(self, 2);
    });
    for (int rank = 0; rank < 2; ++rank) ASSERT_EQ(out.get<std::int32_t>(rank), values_of(1 - rank, count));
  }
}

/// Rank 0 sends `sent` elements, of which rank 1 expects `expected`.
void expect_refusal(std::size_t sent, std::size_t expected) {
  const Buffers data(2, std::max(sent, expected) * kWidth);
  Meeting meeting(2);
  meeting.run([&](int rank) {
    FabricRank self(meeting, rank);
    Exchange call;
    (rank == 0 ? call.outgoing : call.incoming)
        .push_back(letter(data.at(rank), rank == 0 ? sent : expected, 1 - rank));
    call.on(self, 5);
    if (rank == 1) {
      EXPECT_EQ(cudaStreamSynchronize(self.stream()), cudaSuccess);
      const GpuFault fault = self.fabric().fault();
      EXPECT_EQ(fault.kind, GpuFault::mismatch);
      EXPECT_EQ(fault.peer, 0);
      EXPECT_EQ(fault.sequence, kGpuMessage | 5);
      EXPECT_EQ(fault.sent, sent);
    }
    meeting.come(rank);
    self.fabric().give_up();  // a large message waits for room
  });
}

TEST_F(MessagesOnDevice, SayWhatHasComeInstead) {
  for (const std::string protocol : {"simple", "packets", "lines", ""}) {
    SCOPED_TRACE(protocol);
    const OrderedProtocol ordered(protocol);
    expect_refusal(100, 99);
    expect_refusal(99, 1'000'000);
    expect_refusal(1'000'000, 99);
  }
}

TEST_F(MessagesOnDevice, AreReplayed) {
  constexpr std::size_t kCount = 9001;
  constexpr int kReplays = kIsSanitized ? 5 : 50;
  const Buffers data(2, kCount * kWidth);
  data.put(0, values_of(0, kCount));
  run_gpu_ranks(2, [&](GpuRank& self) {
    const ringtree_emulator::Stream stream;
    const auto here = reinterpret_cast<GpuStream>(static_cast<cudaStream_t>(stream));
    const int rank = self.rank();
    self.launch(all_reduce_task("one_shot", 1, 2), data.at(rank), data.at(rank), stream);  // no first time
    std::vector<GpuLetter> outgoing, incoming;
    (rank == 0 ? outgoing : incoming).push_back(letter(data.at(rank), kCount, 1 - rank));
    const Graph graph(stream, [&] {
      EXPECT_FALSE(self.gpu().exchange(outgoing, incoming, kGpuMessage | 1, kSeconds, here));
    });
    for (int replay = 0; replay < kReplays; ++replay) graph.replay(stream);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    self.come();
  });
  EXPECT_EQ(data.get<std::int32_t>(1), data.get<std::int32_t>(0));
}

}  // namespace
}  // namespace ringtree::testing
