// Every algorithm of the catalogue over threads, with sums that are exact, so that bits can be compared.
// tests/contract/ does the same, over processes too and for all types, from Python; this one runs under the
// sanitizers.
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "communicator/local_world.h"

namespace ringtree {
namespace {

using Values = std::vector<float>;
const std::vector<std::size_t> kCounts = {0, 1, 5, 64, 1023, 70'001};

float value(int rank, std::size_t i) {
  return static_cast<float>((static_cast<std::size_t>(rank) * 31 + i * 7) % 101);
}

Values values(int rank, std::size_t count) {
  Values result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = value(rank, i);
  return result;
}

Values sum(int world, std::size_t count) {
  Values result(count, 0);
  for (int rank = 0; rank < world; ++rank)
    for (std::size_t i = 0; i < count; ++i) result[i] += value(rank, i);
  return result;
}

Values slice(const Values& all, int index, std::size_t count) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(index) * count);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

Request request(Collective collective, const std::string& algorithm, const Values& in, Values& out,
                std::size_t count, int root = 0) {
  Request result{collective, in.data(), out.data(), count, DType::float32};
  result.algorithm = algorithm;
  result.root = root;
  return result;
}

class Collectives : public testing::TestWithParam<int> {
 protected:
  template <class Body>
  void each(Collective collective, Body body) {
    for (const std::string& algorithm : algorithms_of(collective)) {
      SCOPED_TRACE(algorithm);
      EXPECT_EQ(run_local(GetParam(),
                          [&](Communicator& comm) {
                            for (const std::size_t count : kCounts) body(comm, algorithm, count);
                          }),
                no_errors(GetParam()));
    }
  }
};

TEST_P(Collectives, AllReduceSums) {
  each(Collective::all_reduce, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    const Values in = values(comm.rank(), count);
    Values out(count, -1), in_place = in;
    comm.run(request(Collective::all_reduce, algorithm, in, out, count), false, nullptr);
    EXPECT_EQ(out, sum(comm.world(), count));
    comm.run(request(Collective::all_reduce, algorithm, in_place, in_place, count), false, nullptr);
    EXPECT_EQ(in_place, out);
  });
}

TEST_P(Collectives, ReduceSumsAtTheRootAndLeavesTheOthersAlone) {
  each(Collective::reduce, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    for (int root = 0; root < comm.world(); ++root) {
      const Values in = values(comm.rank(), count), untouched(count, -1);
      Values out = untouched;
      comm.run(request(Collective::reduce, algorithm, in, out, count, root), false, nullptr);
      EXPECT_EQ(out, comm.rank() == root ? sum(comm.world(), count) : untouched);
    }
  });
}

TEST_P(Collectives, BroadcastCopiesTheRoot) {
  each(Collective::broadcast, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    for (int root = 0; root < comm.world(); ++root) {
      Values data = values(comm.rank(), count);
      comm.run(request(Collective::broadcast, algorithm, data, data, count, root), false, nullptr);
      EXPECT_EQ(data, values(root, count));
    }
  });
}

TEST_P(Collectives, AllGatherConcatenates) {
  each(Collective::all_gather, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    const Values in = values(comm.rank(), count);
    Values out(count * static_cast<std::size_t>(comm.world()), -1);
    comm.run(request(Collective::all_gather, algorithm, in, out, count), false, nullptr);
    for (int rank = 0; rank < comm.world(); ++rank) EXPECT_EQ(slice(out, rank, count), values(rank, count));
  });
}

TEST_P(Collectives, ReduceScatterSumsTheOwnShare) {
  each(Collective::reduce_scatter, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    const std::size_t total = count * static_cast<std::size_t>(comm.world());
    const Values in = values(comm.rank(), total);
    Values out(count, -1);
    comm.run(request(Collective::reduce_scatter, algorithm, in, out, count), false, nullptr);
    EXPECT_EQ(out, slice(sum(comm.world(), total), comm.rank(), count));
  });
}

TEST_P(Collectives, AllToAllTransposes) {
  each(Collective::all_to_all, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    const std::size_t total = count * static_cast<std::size_t>(comm.world());
    const Values in = values(comm.rank(), total);
    Values out(total, -1);
    comm.run(request(Collective::all_to_all, algorithm, in, out, count), false, nullptr);
    for (int rank = 0; rank < comm.world(); ++rank)
      EXPECT_EQ(slice(out, rank, count), slice(values(rank, total), comm.rank(), count));
  });
}

TEST_P(Collectives, GatherAndScatterAreInverse) {
  each(Collective::gather, [](Communicator& comm, const std::string& algorithm, std::size_t count) {
    for (int root = 0; root < comm.world(); ++root) {
      const Values in = values(comm.rank(), count);
      Values all(comm.rank() == root ? count * static_cast<std::size_t>(comm.world()) : 0), back(count, -1);
      comm.run(request(Collective::gather, algorithm, in, all, count, root), false, nullptr);
      comm.run(request(Collective::scatter, "auto", all, back, count, root), false, nullptr);
      EXPECT_EQ(back, in);
    }
  });
}

TEST_P(Collectives, BarrierHoldsEverybodyUntilTheLastHasCome) {
  each(Collective::barrier, [](Communicator& comm, const std::string& algorithm, std::size_t /*count*/) {
    static std::atomic<int> arrived{0};
    arrived = 0;
    Values none;
    comm.run(request(Collective::barrier, algorithm, none, none, 0), false, nullptr);
    ++arrived;
    comm.run(request(Collective::barrier, algorithm, none, none, 0), false, nullptr);
    EXPECT_EQ(arrived, comm.world());
    comm.run(request(Collective::barrier, algorithm, none, none, 0), false, nullptr);
  });
}

TEST_P(Collectives, UnevenAllToAllMovesEachPairsShare) {
  EXPECT_EQ(run_local(GetParam(),
                      [](Communicator& comm) {
                        const auto pair_count = [](int from, int to) {
                          return static_cast<std::size_t>(from * 40'000 + to * 3) % 90'001;
                        };
                        Request call{Collective::all_to_all};
                        call.dtype = DType::float32;
                        Values in, expected;
                        for (int peer = 0; peer < comm.world(); ++peer) {
                          call.in_counts.push_back(pair_count(comm.rank(), peer));
                          call.out_counts.push_back(pair_count(peer, comm.rank()));
                          in.insert(in.end(), call.in_counts.back(),
                                    static_cast<float>(comm.rank() * 100 + peer));
                          expected.insert(expected.end(), call.out_counts.back(),
                                          static_cast<float>(peer * 100 + comm.rank()));
                        }
                        Values out(expected.size(), -1);
                        call.in = in.data();
                        call.out = out.data();
                        comm.run(call, false, nullptr);
                        EXPECT_EQ(out, expected);
                      }),
            no_errors(GetParam()));
}

TEST_P(Collectives, QueuedCallsRunInOrderBesideBlockingOnes) {
  EXPECT_EQ(run_local(GetParam(),
                      [](Communicator& comm) {
                        constexpr std::size_t kCalls = 40;
                        std::vector<Values> data;
                        std::vector<std::shared_ptr<Work>> work;
                        for (std::size_t i = 0; i < kCalls; ++i) data.push_back(values(comm.rank(), i * 50));
                        for (Values& x : data) {
                          const bool async = work.size() % 5 != 4;
                          work.push_back(comm.run(request(Collective::all_reduce, "auto", x, x, x.size()),
                                                  async, nullptr));
                        }
                        for (const auto& item : work)
                          if (item) item->wait();
                        for (const Values& x : data) EXPECT_EQ(x, sum(comm.world(), x.size()));
                      }),
            no_errors(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Worlds, Collectives, testing::Values(1, 2, 3, 4, 5, 8));

}  // namespace
}  // namespace ringtree
