// What the emulator's tests share: launches in one line, streams that end with their scope, expectations.
#pragma once

#include <cuda_runtime.h>
#include <emulator.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>

namespace ringtree_emulator {

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess)
#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess)

template <class... A, class... Given>
cudaError_t launched(void (*kernel)(A...), dim3 grid, dim3 block, cudaStream_t stream, Given... given) {
  std::tuple<A...> arguments(given...);
  return std::apply(
      [&](auto&... each) {
        std::array<void*, sizeof...(A) + 1> addresses{const_cast<void*>(static_cast<const void*>(&each))...};
        return cudaLaunchCooperativeKernel(kernel, grid, block, addresses.data(), 0, stream);
      },
      arguments);
}

class Stream {
 public:
  Stream() { EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { EXPECT_CUDA(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor): stands for it

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { EXPECT_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDefault)); }
  ~Event() { EXPECT_CUDA(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }  // NOLINT(google-explicit-constructor): stands for it

 private:
  cudaEvent_t event_ = nullptr;
};

/// Device memory for `count` elements.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count) { EXPECT_CUDA(cudaMalloc(&data_, count * sizeof(T))); }
  ~Array() { EXPECT_CUDA(cudaFree(data_)); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* get() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }  ///< the host may look, here

 private:
  T* data_ = nullptr;
};

/// Occupies a stream until it is opened.
inline __global__ void wait_until_open(const std::atomic<int>* gate) {
  while (gate->load() == 0) __nanosleep(100);
}

inline __global__ void append(int* log, int* length, int value) { log[(*length)++] = value; }

inline __global__ void add(int* sum, int value) { *sum += value; }

/// Each test ends with as much as it began with, on the hardware that it began with.
class EmulatorTest : public testing::Test {
 protected:
  void SetUp() override {
    cudaDeviceSynchronize();
    cudaGetLastError();
    before_ = statistics();
  }

  void TearDown() override {
    mend();
    set_hardware(hardware_);
    cudaSetDevice(0);
    // A stream that was destroyed while it had work to do lives until that is done.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!statistics().same_lives(before_) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    EXPECT_TRUE(statistics().same_lives(before_)) << "something was not given back";
  }

 private:
  Hardware hardware_ = hardware();
  Statistics before_{};
};

}  // namespace ringtree_emulator
