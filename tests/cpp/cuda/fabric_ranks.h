// Ranks that are threads of one process, each with an end of a fabric and a stream of its own.
#pragma once

#include <emulator.h>
#include <test_support.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda/fabric.h"
#include "cuda/kept.h"
#include "cuda/sanitized.h"
#include "cuda/tasks.h"
#include "cuda/thread_meeting.h"
#include "transports/transport.h"

namespace ringtree::testing {

/// What the environment says while one lives.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() { unsetenv(name_); }

 private:
  const char* name_;
};

/// For fabrics that are opened meanwhile; "": nothing.
class OrderedProtocol : Setting {
 public:
  explicit OrderedProtocol(const std::string& protocol) : Setting("RINGTREE_GPU_PROTOCOL", protocol) {}
};

inline constexpr const char* kEveryProtocol[] = {"simple", "packets", "lines"};

class FabricRank {
 public:
  FabricRank(Meeting& meeting, int rank)
      : meeting_(&meeting),
        rank_(rank),
        fabric_(
            Fabric::of_rank(rank, meeting.world(), meeting.exchange_of(rank), *make_transport("threads"))) {}

  int rank() const { return rank_; }
  int world() const { return meeting_->world(); }
  Fabric& fabric() const { return *fabric_; }
  cudaStream_t stream() const { return stream_; }
  std::uint64_t calls() const { return calls_; }

  void launch(const GpuTask& task, const void* in, void* out) {
    const GpuBuffers buffers{in, out};
    fabric_->launch(numbered(task, ++calls_), {&buffers, 1}, stream_);
  }

  void come() const { meeting_->come(rank_); }

  /// For all ranks, until all calls have ended.
  void wait_for_all() const {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    meeting_->come(rank_);
  }

  void expect_success() const {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(fabric_->fault().kind, GpuFault::none)
        << "rank " << rank_ << ", peer " << fabric_->fault().peer;
    EXPECT_EQ(fabric_->progress().finished, calls_);
  }

 private:
  Meeting* meeting_;
  int rank_;
  std::uint64_t calls_ = 0;
  ringtree_emulator::Stream stream_;
  std::unique_ptr<Fabric> fabric_;
};

/// body(rank) for each rank of a fabric, which is closed once all are done; on the GPU that `devices` gives
/// it.
template <class Body>
void run_ranks_on(const std::vector<int>& devices, Body body) {
  Meeting meeting(static_cast<int>(devices.size()));
  meeting.run([&](int rank) {
    ASSERT_EQ(cudaSetDevice(devices[static_cast<std::size_t>(rank)]), cudaSuccess);
    FabricRank self(meeting, rank);
    body(self);
    self.wait_for_all();
  });
}

template <class Body>
void run_ranks(int world, Body body) {
  run_ranks_on(std::vector<int>(static_cast<std::size_t>(world)), body);
}

/// Small blocks, and room for those of several calls. Each test gives back all it took.
class OnFabrics : public ringtree_emulator::EmulatorTest {
 protected:
  void SetUp() override {
    free_kept();
    make_streams_for_memory();
    EmulatorTest::SetUp();
    set_multiprocessors(16);
  }

  void TearDown() override {
    free_kept();
    EmulatorTest::TearDown();
  }

  /// Which the library keeps, one a device: on as many as tests use.
  static void make_streams_for_memory() {
    constexpr int kDevices = 4;
    const ringtree_emulator::Hardware usual = ringtree_emulator::hardware();
    set_devices(kDevices, 0);
    for (int device = 0; device < kDevices; ++device) {
      const OnDevice here(device);
      allocate_on_device(1, "a test");
    }
    ringtree_emulator::set_hardware(usual);
  }

  /// So that a test gives back what it took, and that the next one asks CUDA for it again.
  /// The streams of threads that have ended may still hold something, for which nobody else waits.
  static void free_kept() {
    while (free_kept_on_device() + free_kept_on_host() != 0) std::this_thread::yield();
  }

  /// Which the ranks share, and so channels and memory.
  static void set_multiprocessors(int multiprocessors) {
    ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
    hardware.lanes_per_block = 4;
    hardware.multiprocessors = multiprocessors;
    ringtree_emulator::set_hardware(hardware);
  }

  static constexpr int kOverPcie = 0;

  /// Of which `island` in a row reach each other; 0: all. By NVLink, or kOverPcie.
  static void set_devices(int devices, int island, int nvlink = 1) {
    ringtree_emulator::Hardware hardware = ringtree_emulator::hardware();
    hardware.devices = devices;
    hardware.island = island;
    hardware.nvlink = nvlink;
    ringtree_emulator::set_hardware(hardware);
  }
};

}  // namespace ringtree::testing
