// Ranks that are threads, on GPUs that reach each other's memory as far as CUDA opens it.
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/fabric_ranks.h"
#include "cuda/values.h"
#include "cuda/virtual_array.h"

namespace ringtree::testing {
namespace {

constexpr std::size_t kCount = 5003;
constexpr std::size_t kBytes = kCount * kWidth;

/// Of cudaMallocAsync.
class PooledArray {
 public:
  explicit PooledArray(cudaStream_t stream) : stream_(stream) {
    EXPECT_EQ(cudaMallocAsync(&memory_, kBytes, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  PooledArray(const PooledArray&) = delete;
  PooledArray& operator=(const PooledArray&) = delete;
  ~PooledArray() { EXPECT_EQ(cudaFreeAsync(memory_, stream_), cudaSuccess); }

  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
  cudaStream_t stream_;
};

using Devices = std::vector<int>;

class SeveralGpus : public OnFabrics {
 protected:
  void SetUp() override {
    OnFabrics::SetUp();
    set_devices(2, 0);
  }

  /// One call. Whether it used the arrays themselves.
  static bool is_direct(FabricRank& self, void* in, void* out) {
    const std::uint64_t before = self.fabric().progress().begun;
    GpuTask task = all_reduce_task("zero_copy", kCount, self.world());
    task.fallback = algorithm_called(Collective::all_reduce, "ring");
    const Values own = values_of(self.rank(), kCount);
    EXPECT_EQ(cudaMemcpy(in, own.data(), kBytes, cudaMemcpyHostToDevice), cudaSuccess);
    self.launch(task, in, out);
    self.expect_success();
    Values result(kCount);
    EXPECT_EQ(cudaMemcpy(result.data(), out, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(result, sum_of(self.world(), kCount));
    return self.fabric().progress().begun == before + 1;  // else its fallback has begun, too
  }
};

TEST_F(SeveralGpus, WhatCudaMallocGaveIsUsedFromOtherGpus) {
  for (const Devices& devices : {Devices{0, 1}, Devices{0, 1, 1}}) {
    std::vector<DeviceMemory<std::byte>> arrays(2 * devices.size());
    run_ranks_on(devices, [&](FabricRank& self) {
      const auto own = 2 * static_cast<std::size_t>(self.rank());
      for (const std::size_t i : {own, own + 1}) arrays[i] = allocate_on_device(kBytes, "a test");
      EXPECT_TRUE(is_direct(self, arrays[own].get(), arrays[own + 1].get()));
    });
  }
}

TEST_F(SeveralGpus, MemoryOfPoolsIsUsedFromTheSameGpuAlone) {
  run_ranks_on({1, 1}, [](FabricRank& self) {
    const PooledArray in(self.stream()), out(self.stream());
    EXPECT_TRUE(is_direct(self, in.get(), out.get()));
  });
  run_ranks_on({0, 1}, [](FabricRank& self) {
    const PooledArray in(self.stream()), out(self.stream());
    EXPECT_FALSE(is_direct(self, in.get(), out.get()));
  });
}

TEST_F(SeveralGpus, ChunksAreUsedFromTheSameGpuAlone) {
  for (const Devices& devices : {Devices{1, 1}, Devices{0, 1}}) {
    std::vector<std::unique_ptr<VirtualArray>> arrays(2);
    run_ranks_on(devices, [&](FabricRank& self) {
      auto& own = arrays[static_cast<std::size_t>(self.rank())];
      own = std::make_unique<VirtualArray>(std::vector<std::size_t>{1});
      EXPECT_EQ(is_direct(self, own->at(0), own->at(kBytes)), devices[0] == devices[1]);
    });
  }
}

// Of rank 1, which reaches all of rank 0's: they decide alike.
TEST_F(SeveralGpus, OneArrayOfAPoolSendsAllRanksThroughTheLinks) {
  std::vector<DeviceMemory<std::byte>> arrays(2);
  run_ranks_on({0, 1}, [&](FabricRank& self) {
    auto& own = arrays[static_cast<std::size_t>(self.rank())];
    own = allocate_on_device(2 * kBytes, "a test");
    std::byte* const in = own.get();
    std::byte* const out = in + kBytes;
    const PooledArray pooled(self.stream());
    EXPECT_FALSE(is_direct(self, self.rank() == 1 ? pooled.get() : in, out));
    EXPECT_FALSE(is_direct(self, in, self.rank() == 1 ? pooled.get() : out));
    EXPECT_TRUE(is_direct(self, in, out));
  });
}

// Each lane looks at the offers of some ranks, or of none.
TEST_F(SeveralGpus, AnyNumberOfLanesMeets) {
  constexpr int kWorld = 5;
  for (const int lanes : {1, 3, 8}) {
    ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
    hardware.lanes_per_block = lanes;
    ringtree_emulator::set_hardware(hardware);
    std::vector<DeviceMemory<std::byte>> arrays(kWorld);
    run_ranks_on({0, 1, 0, 1, 1}, [&](FabricRank& self) {
      auto& own = arrays[static_cast<std::size_t>(self.rank())];
      own = allocate_on_device(2 * kBytes, "a test");
      EXPECT_TRUE(is_direct(self, own.get(), own.get() + kBytes));
      const PooledArray pooled(self.stream());
      EXPECT_FALSE(is_direct(self, self.rank() == 3 ? pooled.get() : own.get(), own.get() + kBytes));
    });
  }
}

}  // namespace
}  // namespace ringtree::testing
