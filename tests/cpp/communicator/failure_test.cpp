// What a rank is told when its peers do something else, or nothing.
#include <gtest/gtest.h>

#include <vector>

#include "communicator/local_world.h"

namespace ringtree {
namespace {

Request call(Collective collective, std::vector<float>& data, const std::string& algorithm = "auto") {
  Request request{collective, data.data(), data.data(), data.size(), DType::float32};
  request.algorithm = algorithm;
  return request;
}

void expect_all_contain(const std::vector<std::string>& errors, const std::string& text) {
  for (const std::string& error : errors) EXPECT_NE(error.find(text), std::string::npos) << error;
}

TEST(Mismatch, OfCollectivesNamesBothCalls) {
  const auto errors = run_local(2, [](Communicator& comm) {
    std::vector<float> data(8);
    if (comm.rank() == 0)
      comm.run(call(Collective::all_reduce, data, "ring"), false, nullptr);
    else
      comm.run({Collective::barrier}, false, nullptr);
  });
  expect_all_contain(errors, "all_reduce #1 (float32 x 8, sum, ring)");
  expect_all_contain(errors, "barrier #1 (");
}

TEST(Mismatch, OfSizesIsFoundByEveryAlgorithm) {
  for (const std::string& algorithm : algorithms_of(Collective::all_reduce))
    for (const int world : {2, 3, 4}) {
      const auto errors = run_local(world, [&](Communicator& comm) {
        std::vector<float> data(comm.rank() == 1 ? 100 : 101);
        comm.run(call(Collective::all_reduce, data, algorithm), false, nullptr);
      });
      expect_all_contain(errors, "float32 x 100, sum, " + algorithm);
      expect_all_contain(errors, "float32 x 101, sum, " + algorithm);
    }
}

TEST(Mismatch, OfRootsIsFoundThoughNobodyWaitsForData) {
  for (const std::string& algorithm : algorithms_of(Collective::broadcast)) {
    const auto errors = run_local(2, [&](Communicator& comm) {
      std::vector<float> data(4);
      Request request = call(Collective::broadcast, data, algorithm);
      request.root = comm.rank();
      for (std::uint64_t i = 0; i < kMaxLead; ++i) comm.run(request, false, nullptr);
    });
    expect_all_contain(errors, "root 0, " + algorithm);
    expect_all_contain(errors, "root 1, " + algorithm);
  }
}

TEST(Mismatch, OfPairwiseCountsInAnUnevenAllToAll) {
  const auto errors = run_local(2, [](Communicator& comm) {
    std::vector<float> in(100), out(100);
    Request request{Collective::all_to_all, in.data(), out.data(), 0, DType::float32};
    request.in_counts = {5, 5};
    request.out_counts = comm.rank() == 0 ? std::vector<std::size_t>{5, 5} : std::vector<std::size_t>{7, 5};
    comm.run(request, false, nullptr);
    comm.run({Collective::barrier}, false, nullptr);
  });
  expect_all_contain(errors, "sent a piece of 20 bytes where rank 1 expects 28");
}

TEST(Timeout, NamesTheRankThatHasNotCalled) {
  std::latch given_up(2);
  const auto errors = run_local(
      3,
      [&](Communicator& comm) {
        std::vector<float> data(8);
        comm.run(call(Collective::all_reduce, data), false, nullptr);
        if (comm.rank() == 2) return given_up.wait();
        const Countdown when_done(given_up);
        comm.run(call(Collective::all_reduce, data), false, nullptr);
      },
      0.2);
  for (const std::size_t rank : {0U, 1U})
    EXPECT_NE(errors[rank].find("was not complete after 0.2 s: rank 2 has not called it"), std::string::npos)
        << errors[rank];
}

TEST(RankFailure, NamesARankThatLeftEarly) {
  const auto errors = run_local(3, [](Communicator& comm) {
    std::vector<float> data(8);
    comm.run(call(Collective::all_reduce, data), false, nullptr);
    if (comm.rank() == 1) return;
    comm.run(call(Collective::all_reduce, data), false, nullptr);
  });
  EXPECT_EQ(errors[1], "");
  for (const int rank : {0, 2})
    EXPECT_NE(
        errors[static_cast<std::size_t>(rank)].find("rank 1 closed the communicator while all_reduce #2"),
        std::string::npos)
        << errors[static_cast<std::size_t>(rank)];
}

TEST(RankFailure, IsNotRaisedOverARankThatLeftAfterItsLastCall) {
  for (int repetition = 0; repetition < 50; ++repetition)
    EXPECT_EQ(run_local(4,
                        [](Communicator& comm) {
                          std::vector<float> data(50'000);
                          comm.run(call(Collective::broadcast, data), false, nullptr);
                          comm.run(call(Collective::all_reduce, data), false, nullptr);
                        }),
              no_errors(4));
}

TEST(Abort, EndsAPeersWaitWithTheReason) {
  const auto errors = run_local(2, [](Communicator& comm) {
    std::vector<float> data(8);
    if (comm.rank() == 0)
      comm.abort("the loss is NaN");
    else
      comm.run(call(Collective::all_reduce, data), false, nullptr);
    comm.run(call(Collective::all_reduce, data), false, nullptr);
  });
  expect_all_contain(errors, "rank 0 aborted the communicator: the loss is NaN.");
  expect_all_contain(errors, "can no longer be used");
}

TEST(InvalidArgument, LeavesTheCommunicatorUsable) {
  EXPECT_EQ(run_local(2,
                      [](Communicator& comm) {
                        std::vector<float> data(8, 1);
                        Request request = call(Collective::broadcast, data);
                        request.root = 2;
                        EXPECT_THROW(comm.run(request, false, nullptr), InvalidArgument);
                        EXPECT_THROW(comm.run(call(Collective::all_reduce, data, "magic"), false, nullptr),
                                     InvalidArgument);
                        request = call(Collective::all_reduce, data);
                        request.op = ReduceOp::band;
                        EXPECT_THROW(comm.run(request, false, nullptr), InvalidArgument);
                        comm.run(call(Collective::all_reduce, data), false, nullptr);
                        EXPECT_EQ(data, std::vector<float>(8, 2));
                      }),
            no_errors(2));
}

TEST(Close, RefusesFurtherCalls) {
  run_local(2, [](Communicator& comm) {
    comm.close();
    std::vector<float> data(8);
    try {
      comm.run(call(Collective::all_reduce, data), false, nullptr);
      ADD_FAILURE() << "a closed communicator ran a call";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("this communicator is closed"), std::string::npos);
    }
  });
}

}  // namespace
}  // namespace ringtree
