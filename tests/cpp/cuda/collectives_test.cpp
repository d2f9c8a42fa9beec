// Every algorithm's kernel, between virtual ranks, for sizes that fill many slots and none.
#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "cuda/sanitized.h"
#include "cuda/values.h"
#include "cuda/virtual_ranks.h"

namespace ringtree::testing {
namespace {

Values part(const Values& values, std::size_t begin, std::size_t size) {
  return {values.begin() + static_cast<std::ptrdiff_t>(begin),
          values.begin() + static_cast<std::ptrdiff_t>(begin + size)};
}

using enum GpuProtocol;
constexpr GpuProtocol kProtocols[] = {simple, packets, lines};
constexpr const char* kProtocolNames[] = {"BySize", "Simple", "Packets", "Lines"};

/// Runs `body(fabric, world, algorithm, count)` for worlds, algorithms and sizes.
template <class Body>
void for_each(Collective collective, Body body) {
  using Worlds = std::vector<std::pair<int, GpuProtocol>>;
  using Counts = std::vector<std::size_t>;
  for (const auto& [world, protocol] :
       kIsSanitized ? Worlds{{3, simple}, {4, simple}, {3, packets}, {4, packets}, {3, lines}, {4, lines}}
                    : Worlds{{2, simple},
                             {3, simple},
                             {4, simple},
                             {7, simple},
                             {8, simple},
                             {2, packets},
                             {5, packets},
                             {8, packets},
                             {2, lines},
                             {5, lines},
                             {8, lines}}) {
    const auto fabric = Fabric::of_virtual_ranks(small_shape(world, 2, protocol));
    for (const std::uint8_t algorithm : algorithms_on_device(collective))
      for (const std::size_t count : kIsSanitized ? Counts{0, 13, 3001} : Counts{0, 1, 13, 257, 6001}) {
        SCOPED_TRACE(catalogue()[algorithm].name);
        SCOPED_TRACE("world " + std::to_string(world) + ", count " + std::to_string(count));
        body(*fabric, world, algorithm, count);
        if (::testing::Test::HasFatalFailure()) return;
      }
  }
}

TEST(DeviceAllReduce, SumsOnEveryRankInPlaceAndNot) {
  for_each(Collective::all_reduce, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    for (const bool in_place : {false, true}) {
      const std::size_t bytes = count * kWidth;
      const Buffers in(world, bytes), out(world, bytes);
      for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, count));
      out.poison();
      GpuTask task{algorithm};
      task.in_bytes = task.out_bytes = bytes;
      task.dtype = DType::int32;
      const Buffers& result = in_place ? in : out;
      run(fabric, task, in, result);
      for (int rank = 0; rank < world; ++rank)
        ASSERT_EQ(result.get<std::int32_t>(rank), sum_of(world, count));
    }
  });
}

TEST(DeviceReduce, SumsAtTheRoot) {
  for_each(Collective::reduce, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const std::size_t bytes = count * kWidth;
    const Buffers in(world, bytes), out(world, bytes);
    for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, count));
    GpuTask task{algorithm};
    task.in_bytes = task.out_bytes = bytes;
    task.dtype = DType::int32;
    task.root = world - 1;
    run(fabric, task, in, out);
    ASSERT_EQ(out.get<std::int32_t>(task.root), sum_of(world, count));
  });
}

TEST(DeviceReduceScatter, GivesEachRankItsShareOfTheSum) {
  for_each(Collective::reduce_scatter,
           [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
             const std::size_t all = count * static_cast<std::size_t>(world);
             const Buffers in(world, all * kWidth), out(world, count * kWidth);
             for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, all));
             GpuTask task{algorithm};
             task.in_bytes = all * kWidth;
             task.out_bytes = task.share = count * kWidth;
             task.dtype = DType::int32;
             run(fabric, task, in, out);
             for (int rank = 0; rank < world; ++rank)
               ASSERT_EQ(out.get<std::int32_t>(rank),
                         part(sum_of(world, all), static_cast<std::size_t>(rank) * count, count));
           });
}

TEST(DeviceBroadcast, GivesEveryRankTheRootsValues) {
  for_each(Collective::broadcast, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const Buffers data(world, count * kWidth);
    for (int rank = 0; rank < world; ++rank) data.put(rank, values_of(rank, count));
    GpuTask task{algorithm};
    task.out_bytes = count * kWidth;
    task.root = 1;
    run(fabric, task, data, data);
    for (int rank = 0; rank < world; ++rank) ASSERT_EQ(data.get<std::int32_t>(rank), values_of(1, count));
  });
}

TEST(DeviceAllGather, GivesEveryRankEverySharesValues) {
  for_each(Collective::all_gather, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const std::size_t all = count * static_cast<std::size_t>(world);
    const Buffers in(world, count * kWidth), out(world, all * kWidth);
    Values expected;
    for (int rank = 0; rank < world; ++rank) {
      const Values own = values_of(rank, count);
      in.put(rank, own);
      expected.insert(expected.end(), own.begin(), own.end());
    }
    out.poison();
    GpuTask task{algorithm};
    task.in_bytes = task.share = count * kWidth;
    task.out_bytes = all * kWidth;
    run(fabric, task, in, out);
    for (int rank = 0; rank < world; ++rank) ASSERT_EQ(out.get<std::int32_t>(rank), expected);
  });
}

TEST(DeviceAllToAll, GivesEachRankItsShareOfEveryRank) {
  for_each(Collective::all_to_all, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const std::size_t all = count * static_cast<std::size_t>(world);
    const Buffers in(world, all * kWidth), out(world, all * kWidth);
    for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, all));
    out.poison();
    GpuTask task{algorithm};
    task.in_bytes = task.out_bytes = all * kWidth;
    task.share = count * kWidth;
    run(fabric, task, in, out);
    for (int rank = 0; rank < world; ++rank) {
      Values expected;
      for (int peer = 0; peer < world; ++peer) {
        const Values share = part(values_of(peer, all), static_cast<std::size_t>(rank) * count, count);
        expected.insert(expected.end(), share.begin(), share.end());
      }
      ASSERT_EQ(out.get<std::int32_t>(rank), expected);
    }
  });
}

TEST(DeviceGatherAndScatter, MoveSharesToAndFromTheRoot) {
  for_each(Collective::gather, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const std::size_t all = count * static_cast<std::size_t>(world);
    const Buffers in(world, count * kWidth), out(world, all * kWidth);
    for (int rank = 0; rank < world; ++rank) in.put(rank, values_of(rank, count));
    GpuTask task{algorithm};
    task.in_bytes = task.share = count * kWidth;
    task.out_bytes = all * kWidth;
    task.root = world - 1;
    run(fabric, task, in, out);
    for (int rank = 0; rank < world; ++rank)
      ASSERT_EQ(part(out.get<std::int32_t>(task.root), static_cast<std::size_t>(rank) * count, count),
                values_of(rank, count));
  });
  for_each(Collective::scatter, [](Fabric& fabric, int world, std::uint8_t algorithm, std::size_t count) {
    const std::size_t all = count * static_cast<std::size_t>(world);
    const Buffers in(world, all * kWidth), out(world, count * kWidth);
    in.put(0, values_of(0, all));
    GpuTask task{algorithm};
    task.in_bytes = all * kWidth;
    task.out_bytes = task.share = count * kWidth;
    run(fabric, task, in, out);
    for (int rank = 0; rank < world; ++rank)
      ASSERT_EQ(out.get<std::int32_t>(rank),
                part(values_of(0, all), static_cast<std::size_t>(rank) * count, count));
  });
}

class DeviceCollectives : public ::testing::TestWithParam<GpuProtocol> {};

TEST_P(DeviceCollectives, TakeUnequalShares) {
  constexpr int kWorld = 4;
  const std::vector<std::size_t> offsets = {0, 12, 12, 4096 + 12, 4096 + 16};  // bytes
  const std::size_t all = offsets.back();
  const auto fabric = Fabric::of_virtual_ranks(small_shape(kWorld, 3, GetParam()));
  for (const Collective collective : {Collective::all_gather, Collective::reduce_scatter})
    for (const std::uint8_t algorithm : algorithms_on_device(collective)) {
      SCOPED_TRACE(catalogue()[algorithm].name);
      const Buffers in(kWorld, all), out(kWorld, all);
      for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, all / kWidth));
      out.poison();
      GpuTask task{algorithm};
      (collective == Collective::all_gather ? task.out_offsets : task.in_offsets) = offsets;
      task.in_bytes = task.out_bytes = all;
      task.dtype = DType::int32;
      run(*fabric, task, in, out);
      for (int rank = 0; rank < kWorld; ++rank)
        for (int peer = 0; peer < kWorld; ++peer) {
          const std::size_t begin = offsets[static_cast<std::size_t>(peer)] / kWidth;
          const std::size_t size = offsets[static_cast<std::size_t>(peer) + 1] / kWidth - begin;
          if (collective == Collective::all_gather)
            ASSERT_EQ(part(out.get<std::int32_t>(rank), begin, size),
                      part(values_of(peer, all / kWidth), 0, size));
          else if (peer == rank)
            ASSERT_EQ(part(out.get<std::int32_t>(rank), 0, size),
                      part(sum_of(kWorld, all / kWidth), begin, size));
        }
    }
}

TEST_P(DeviceCollectives, TakeBuffersThatAreNotAlignedToPacks) {
  constexpr int kWorld = 3;
  constexpr std::size_t kCount = 3001;
  const auto fabric = Fabric::of_virtual_ranks(small_shape(kWorld, 2, GetParam()));
  for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_reduce))
    for (const std::size_t in_offset : {0, 4, 8})
      for (const std::size_t out_offset : {0, 4, 12}) {
        SCOPED_TRACE(catalogue()[algorithm].name);
        const Buffers in(kWorld, kCount * kWidth, in_offset), out(kWorld, kCount * kWidth, out_offset);
        for (int rank = 0; rank < kWorld; ++rank) in.put(rank, values_of(rank, kCount));
        GpuTask task{algorithm};
        task.in_bytes = task.out_bytes = kCount * kWidth;
        task.dtype = DType::int32;
        run(*fabric, task, in, out);
        for (int rank = 0; rank < kWorld; ++rank)
          ASSERT_EQ(out.get<std::int32_t>(rank), sum_of(kWorld, kCount));
      }
}

TEST_P(DeviceCollectives, EndBarriersOnEveryRank) {
  for (const int world : {2, 5, 16}) {
    const auto fabric = Fabric::of_virtual_ranks(small_shape(world, 1, GetParam()));
    const Buffers none(world, 0);
    for (const std::uint8_t algorithm : algorithms_on_device(Collective::barrier))
      for (int again = 0; again < 20; ++again) run(*fabric, GpuTask{algorithm}, none, none);
  }
}

/// A small whole number as uint8, or as bfloat16.
template <class T>
T encoded(unsigned value) {
  if constexpr (sizeof(T) == 1) return static_cast<T>(value);
  return static_cast<T>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16U);
}

unsigned narrow_value(int rank, std::size_t i) {
  return static_cast<unsigned>(i * 7 + static_cast<std::size_t>(rank) * 3) % 11;
}

template <class T>
void take_odd_shares(GpuProtocol protocol, DType dtype) {
  for (const int world : {2, 3, 5})
    for (const std::size_t count : {1, 3, 13, 77, 333}) {
      SCOPED_TRACE(std::to_string(sizeof(T)) + " bytes x " + std::to_string(count) + ", " +
                   std::to_string(world));
      const auto fabric = Fabric::of_virtual_ranks(small_shape(world, 1, protocol));
      const std::size_t all = count * static_cast<std::size_t>(world);
      const Buffers in(world, all * sizeof(T)), share(world, count * sizeof(T)), out(world, all * sizeof(T));
      const auto part_of = [&](int rank, int peer) {  // of `rank`, for `peer`
        std::vector<T> part(count);
        for (std::size_t i = 0; i < count; ++i)
          part[i] = encoded<T>(narrow_value(rank, static_cast<std::size_t>(peer) * count + i));
        return part;
      };
      for (int rank = 0; rank < world; ++rank) {
        std::vector<T> whole;
        for (int peer = 0; peer < world; ++peer) {
          const std::vector<T> part = part_of(rank, peer);
          whole.insert(whole.end(), part.begin(), part.end());
        }
        in.put(rank, whole);
      }
      GpuTask task;
      task.dtype = dtype;
      task.in_bytes = all * sizeof(T);
      task.share = count * sizeof(T);
      for (const std::uint8_t algorithm : algorithms_on_device(Collective::reduce_scatter)) {
        SCOPED_TRACE(catalogue()[algorithm].name);
        task.algorithm = algorithm;
        task.out_bytes = count * sizeof(T);
        run(*fabric, task, in, share);
        for (int rank = 0; rank < world; ++rank) {
          std::vector<T> sum(count);
          for (std::size_t i = 0; i < count; ++i) {
            unsigned all_ranks = 0;
            for (int peer = 0; peer < world; ++peer)
              all_ranks += narrow_value(peer, static_cast<std::size_t>(rank) * count + i);
            sum[i] = encoded<T>(all_ranks);
          }
          ASSERT_EQ(share.get<T>(rank), sum);
        }
      }
      for (const std::uint8_t algorithm : algorithms_on_device(Collective::all_to_all)) {
        SCOPED_TRACE(catalogue()[algorithm].name);
        task.algorithm = algorithm;
        task.out_bytes = all * sizeof(T);
        run(*fabric, task, in, out);
        for (int rank = 0; rank < world; ++rank) {
          std::vector<T> expected;
          for (int peer = 0; peer < world; ++peer) {
            const std::vector<T> part = part_of(peer, rank);
            expected.insert(expected.end(), part.begin(), part.end());
          }
          ASSERT_EQ(out.get<T>(rank), expected);
        }
      }
    }
}

TEST_P(DeviceCollectives, TakeSharesOfOddSizes) {
  take_odd_shares<std::uint8_t>(GetParam(), DType::uint8);
  take_odd_shares<std::uint16_t>(GetParam(), DType::bfloat16);
}

INSTANTIATE_TEST_SUITE_P(ByEveryProtocol, DeviceCollectives, ::testing::ValuesIn(kProtocols),
                         [](const auto& info) { return kProtocolNames[static_cast<int>(info.param)]; });

}  // namespace
}  // namespace ringtree::testing
