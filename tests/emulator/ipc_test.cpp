// Two processes: this one, and itself once more, started with the handle in its arguments.
#include "ipc_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "test_support.h"

namespace ringtree_emulator {
namespace {

using IpcTest = EmulatorTest;

std::string to_text(const cudaIpcMemHandle_t& handle) {
  std::string text;
  for (const char byte : handle.reserved) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
    text += digits;
  }
  return text;
}

cudaIpcMemHandle_t from_text(const std::string& text) {
  cudaIpcMemHandle_t handle{};
  for (std::size_t i = 0; i < sizeof handle.reserved; ++i)
    handle.reserved[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return handle;
}

/// Starts this program anew with the arguments; a process that owns a device of its own.
pid_t start(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "emulator_test");
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    execv("/proc/self/exe", pointers.data());
    _exit(127);
  }
  return child;
}

int exit_status(pid_t process) {
  int status = 0;
  EXPECT_EQ(waitpid(process, &status, 0), process);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// words[0] counts the turns that both kernels take one after the other.
__global__ void take_turns(int* words, int first, int turns) {
  for (int turn = first; turn < turns; turn += 2) {
    if (threadIdx.x == 0)
      while (std::atomic_ref(words[0]).load(std::memory_order_acquire) != turn) __nanosleep(20);
    __syncthreads();
    words[1 + threadIdx.x] += turn;
    __syncthreads();
    if (threadIdx.x == 0) std::atomic_ref(words[0]).store(turn + 1, std::memory_order_release);
  }
}

constexpr int kTurns = 100;

TEST_F(IpcTest, KernelsOfTwoProcessesWorkOnTheSameMemory) {
  const Array<int> words(5);
  ASSERT_CUDA(cudaMemset(words.get(), 0, 5 * sizeof(int)));
  cudaIpcMemHandle_t handle{};
  ASSERT_CUDA(cudaIpcGetMemHandle(&handle, &words[3]));  // stands for all of the allocation
  const pid_t peer = start({"--peer", to_text(handle)});
  ASSERT_CUDA(launched(take_turns, 1, 4, nullptr, words.get(), 0, kTurns));
  EXPECT_EQ(exit_status(peer), 0);
  ASSERT_CUDA(cudaDeviceSynchronize());
  for (std::size_t lane = 0; lane < 4; ++lane) EXPECT_EQ(words[1 + lane], kTurns * (kTurns - 1) / 2);
}

TEST_F(IpcTest, AProcessDoesNotOpenItsOwnHandles) {
  const Array<int> words(1);
  cudaIpcMemHandle_t handle{};
  void* memory = nullptr;
  ASSERT_CUDA(cudaIpcGetMemHandle(&handle, words.get()));
  EXPECT_EQ(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess),
            cudaErrorDeviceUninitialized);
  EXPECT_EQ(cudaIpcGetMemHandle(&handle, &memory), cudaErrorInvalidValue);
  EXPECT_EQ(cudaIpcOpenMemHandle(&memory, {}, cudaIpcMemLazyEnablePeerAccess), cudaErrorInvalidValue);
  EXPECT_EQ(cudaIpcCloseMemHandle(words.get()), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(IpcTest, AHandleOfWhatHasGoneIsAnError) {
  cudaIpcMemHandle_t handle{};
  {
    const Array<int> words(1);
    ASSERT_CUDA(cudaIpcGetMemHandle(&handle, words.get()));
  }
  const Array<int> at_the_same_descriptor(1);
  EXPECT_EQ(exit_status(start({"--stranger", to_text(handle)})), 0);
}

#define REQUIRE(condition)                                             \
  if (!(condition)) {                                                  \
    std::fprintf(stderr, "peer: line %d: %s\n", __LINE__, #condition); \
    return 1;                                                          \
  }

int run_peer(const cudaIpcMemHandle_t& handle) {
  int* words = nullptr;
  void* again = nullptr;
  REQUIRE(cudaIpcOpenMemHandle(reinterpret_cast<void**>(&words), handle, cudaIpcMemLazyEnablePeerAccess) ==
          cudaSuccess)
  REQUIRE(cudaIpcOpenMemHandle(&again, handle, cudaIpcMemLazyEnablePeerAccess) == cudaSuccess)
  REQUIRE(again == words && statistics().opened_handles == 2)
  cudaPointerAttributes attributes{};
  REQUIRE(cudaPointerGetAttributes(&attributes, &words[4]) == cudaSuccess)
  REQUIRE(attributes.type == cudaMemoryTypeDevice)
  REQUIRE(cudaIpcCloseMemHandle(again) == cudaSuccess)
  REQUIRE(launched(take_turns, 1, 4, nullptr, words, 1, kTurns) == cudaSuccess)
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess)
  REQUIRE(cudaIpcCloseMemHandle(words) == cudaSuccess)
  REQUIRE(cudaIpcCloseMemHandle(words) == cudaErrorInvalidValue)
  REQUIRE(statistics().opened_handles == 0)
  return 0;
}

int run_stranger(const cudaIpcMemHandle_t& handle) {
  void* memory = nullptr;
  REQUIRE(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess) ==
          cudaErrorMapBufferObjectFailed)
  return 0;
}

}  // namespace

std::optional<int> run_as_other_process(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--peer") == 0) return run_peer(from_text(argv[2]));
  if (argc == 3 && std::strcmp(argv[1], "--stranger") == 0) return run_stranger(from_text(argv[2]));
  return std::nullopt;
}

}  // namespace ringtree_emulator
