// A world of virtual ranks with buffers, for tests of kernels.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "communicator/host_entry.h"
#include "cuda/fabric.h"
#include "cuda/protocol.h"

namespace ringtree::testing {

/// Slots so small that a few kilobytes take many rounds.
inline FabricShape small_shape(int world, int channels = 2, GpuProtocol protocol = GpuProtocol::simple) {
  FabricShape shape{DeviceLayout::of(world, channels, 1024, 2048, 1024), 4, 0};
  settle_protocol(shape, protocol, true);
  return shape;
}

/// A buffer of the device for each rank.
class Buffers {
 public:
  Buffers(int world, std::size_t bytes, std::size_t offset = 0) : bytes_(bytes), offset_(offset) {
    for (int rank = 0; rank < world; ++rank)
      owned_.push_back(allocate_on_device(bytes + offset + 1, "a test"));
  }

  std::byte* at(int rank) const { return owned_[static_cast<std::size_t>(rank)].get() + offset_; }

  template <class T>
  void put(int rank, const std::vector<T>& values) const {
    ASSERT_EQ(values.size() * sizeof(T), bytes_);
    ASSERT_EQ(cudaMemcpy(at(rank), values.data(), bytes_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  template <class T>
  std::vector<T> get(int rank) const {
    std::vector<T> values(bytes_ / sizeof(T));
    cudaMemcpy(values.data(), at(rank), bytes_, cudaMemcpyDeviceToHost);
    return values;
  }
  void poison() const {
    for (std::size_t rank = 0; rank < owned_.size(); ++rank)
      cudaMemset(at(static_cast<int>(rank)), 0xEE, bytes_);
  }

 private:
  std::size_t bytes_, offset_;
  std::vector<DeviceMemory<std::byte>> owned_;
};

/// Runs one call of all ranks of `fabric` and waits for its end.
inline void run(Fabric& fabric, GpuTask task, const Buffers& in, const Buffers& out) {
  static std::uint64_t sequence = 0;
  task.sequence = ++sequence;
  task.digest = task.sequence * 7919;
  task.timeout_seconds = 60;
  std::vector<GpuBuffers> buffers;
  for (int rank = 0; rank < fabric.world(); ++rank) buffers.push_back({in.at(rank), out.at(rank)});
  fabric.launch(task, buffers, nullptr);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(fabric.fault().kind, GpuFault::none) << "peer " << fabric.fault().peer;
  ASSERT_EQ(fabric.progress().finished, task.sequence);
}

/// The algorithms that have kernels, as indices in the catalogue.
inline std::vector<std::uint8_t> algorithms_on_device(Collective collective) {
  std::vector<std::uint8_t> found;
  for (std::size_t i = 0; i < catalogue().size(); ++i)
    if (catalogue()[i].collective == collective && kernels()[i].kernel != nullptr)
      found.push_back(static_cast<std::uint8_t>(i));
  return found;
}

}  // namespace ringtree::testing
