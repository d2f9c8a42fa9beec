#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "communicator/local_world.h"

namespace ringtree {
namespace {

using Values = std::vector<std::int32_t>;

Letter letter(bool outgoing, int peer, Values& values) {
  return {outgoing, peer, reinterpret_cast<std::byte*>(values.data()), values.size(), DType::int32};
}

Values counted(int seed, std::size_t count) {
  Values values(count);
  std::iota(values.begin(), values.end(), seed);
  return values;
}

TEST(Mailbox, MessagesOfAllSizesArriveInOrder) {
  const std::vector<std::size_t> counts = {0, 1, 10, 11, 5000, 300'000};
  EXPECT_EQ(run_local(2,
                      [&](Communicator& comm) {
                        for (const std::size_t count : counts) {
                          Values sent = counted(static_cast<int>(count), count), received(count, -1);
                          if (comm.rank() == 0)
                            comm.exchange({letter(true, 1, sent)}, false, nullptr);
                          else
                            comm.exchange({letter(false, 0, received)}, false, nullptr);
                          if (comm.rank() == 1) {
                            EXPECT_EQ(received, sent);
                          }
                        }
                      }),
            no_errors(2));
}

TEST(Mailbox, RingShiftOfLargeMessagesDoesNotBlock) {
  for (const int world : {2, 3, 5})
    EXPECT_EQ(run_local(world,
                        [](Communicator& comm) {
                          const int next = (comm.rank() + 1) % comm.world();
                          const int prev = (comm.rank() + comm.world() - 1) % comm.world();
                          Values sent = counted(comm.rank(), 400'000), received(400'000, -1);
                          comm.exchange({letter(true, next, sent), letter(false, prev, received)}, false,
                                        nullptr);
                          EXPECT_EQ(received, counted(prev, 400'000));
                        }),
              no_errors(world));
}

TEST(Mailbox, BothSidesMaySendFirstWhenSendsAreAsync) {
  EXPECT_EQ(run_local(2,
                      [](Communicator& comm) {
                        const int peer = 1 - comm.rank();
                        Values sent = counted(comm.rank(), 500'000), received(500'000, -1);
                        const auto work = comm.exchange({letter(true, peer, sent)}, true, nullptr);
                        comm.exchange({letter(false, peer, received)}, false, nullptr);
                        work->wait();
                        EXPECT_EQ(received, counted(peer, 500'000));
                      }),
            no_errors(2));
}

TEST(Mailbox, LettersTravelBesideCollectives) {
  EXPECT_EQ(run_local(3,
                      [](Communicator& comm) {
                        const int next = (comm.rank() + 1) % 3, prev = (comm.rank() + 2) % 3;
                        Values sent = counted(comm.rank(), 200'000), received(200'000, -1), sum(9, 1);
                        const auto in = comm.exchange({letter(false, prev, received)}, true, nullptr);
                        const auto out = comm.exchange({letter(true, next, sent)}, true, nullptr);
                        for (int i = 0; i < 20; ++i) {
                          Request call{Collective::all_reduce, sum.data(), sum.data(), sum.size(),
                                       DType::int32};
                          call.op = ReduceOp::max;
                          comm.run(call, false, nullptr);
                        }
                        in->wait();
                        out->wait();
                        EXPECT_EQ(received, counted(prev, 200'000));
                      }),
            no_errors(3));
}

TEST(Mailbox, DifferentSizesAreAMismatchThatNamesBoth) {
  const auto errors = run_local(2, [](Communicator& comm) {
    Values values(comm.rank() == 0 ? 10 : 20);
    comm.exchange({letter(comm.rank() == 0, 1 - comm.rank(), values)}, false, nullptr);
    Values none;
    comm.run({Collective::barrier}, false, nullptr);
  });
  EXPECT_NE(errors[1].find("rank 0 sent int32 x 10 to rank 1, which receives int32 x 20"), std::string::npos)
      << errors[1];
  EXPECT_NE(errors[0].find("rank 0 sent int32 x 10"), std::string::npos) << errors[0];
}

TEST(Mailbox, ALetterNobodyTakesTimesOutAndNamesThePeer) {
  std::latch given_up(1);
  const auto errors = run_local(
      2,
      [&](Communicator& comm) {
        if (comm.rank() == 0) return given_up.wait();
        const Countdown when_done(given_up);
        Values values(10);
        comm.exchange({letter(false, 0, values)}, false, nullptr);
      },
      0.2);
  EXPECT_NE(errors[1].find("recv #1 from rank 0 (int32 x 10) was not answered within 0.2 s: rank 0 has not"),
            std::string::npos)
      << errors[1];
}

}  // namespace
}  // namespace ringtree
