#include <functional>
#include <thread>
#include <vector>

#include "test_support.h"

namespace ringtree_emulator {
namespace {

using GraphsTest = EmulatorTest;

/// What `record` gives to `stream`, ready to be launched.
cudaGraphExec_t captured(cudaStream_t stream, const std::function<void()>& record) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  record();
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  EXPECT_CUDA(cudaGraphUpload(executable, stream));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  return executable;
}

TEST_F(GraphsTest, WhatIsCapturedRunsAtEachLaunchAndNotBefore) {
  const Array<int> sum(1);
  sum[0] = 0;
  const Stream stream;
  int value = 3;
  const cudaGraphExec_t executable = captured(stream, [&] {
    ASSERT_CUDA(launched(add, 1, 1, stream, sum.get(), value));
    value = 1000;
    ASSERT_CUDA(launched(add, 1, 1, stream, sum.get(), 4));
  });
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum[0], 0);
  for (int i = 0; i < 100; ++i) ASSERT_CUDA(cudaGraphLaunch(executable, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(sum[0], 700);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
}

TEST_F(GraphsTest, CopiesFillsAndHostFunctionsAreCapturedToo) {
  const Array<int> values(2);
  const Stream stream;
  int* pinned = nullptr;
  ASSERT_CUDA(cudaMallocHost(&pinned, sizeof(int)));
  int calls = 0;
  const cudaGraphExec_t executable = captured(stream, [&] {
    ASSERT_CUDA(cudaMemsetAsync(values.get(), 0, 2 * sizeof(int), stream));
    ASSERT_CUDA(launched(add, 1, 1, stream, values.get(), 4));
    ASSERT_CUDA(cudaMemcpyAsync(pinned, values.get(), sizeof(int), cudaMemcpyDeviceToHost, stream));
    ASSERT_CUDA(cudaLaunchHostFunc(stream, [](void* data) { ++*static_cast<int*>(data); }, &calls));
  });
  for (int i = 1; i <= 3; ++i) {
    *pinned = 0;
    ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(*pinned, 4);
    EXPECT_EQ(calls, i);
  }
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_CUDA(cudaFreeHost(pinned));
}

__global__ void meet_one_other(int* arrived) {
  std::atomic_ref(*arrived).fetch_add(1);
  while (std::atomic_ref(*arrived).load() % 2 != 0) __nanosleep(20);
}

TEST_F(GraphsTest, ACaptureForksAndJoinsByEventsAndItsBranchesRunAtTheSameTime) {
  const Array<int> arrived(1), sum(1);
  arrived[0] = sum[0] = 0;
  const Stream origin, branch;
  const Event fork, join;
  const cudaGraphExec_t executable = captured(origin, [&] {
    ASSERT_CUDA(launched(add, 1, 1, origin, sum.get(), 1));
    ASSERT_CUDA(cudaEventRecord(fork, origin));
    ASSERT_CUDA(cudaStreamWaitEvent(branch, fork));
    ASSERT_CUDA(launched(meet_one_other, 1, 1, branch, arrived.get()));
    ASSERT_CUDA(launched(meet_one_other, 1, 1, origin, arrived.get()));
    ASSERT_CUDA(cudaEventRecord(join, branch));
    ASSERT_CUDA(cudaStreamWaitEvent(origin, join));
    ASSERT_CUDA(launched(add, 1, 1, origin, sum.get(), 1));
  });
  for (int i = 0; i < 20; ++i) ASSERT_CUDA(cudaGraphLaunch(executable, origin));
  ASSERT_CUDA(cudaStreamSynchronize(origin));
  EXPECT_EQ(arrived[0], 40);
  EXPECT_EQ(sum[0], 40);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  ASSERT_CUDA(launched(add, 1, 1, branch, sum.get(), 1));
  ASSERT_CUDA(cudaStreamSynchronize(branch));
  EXPECT_EQ(sum[0], 41) << "the branch is an ordinary stream again";
}

TEST_F(GraphsTest, MemoryOfACaptureLivesAsLongAsItsGraph) {
  const Array<int> sum(1);
  const Stream stream;
  const std::size_t before = statistics().allocations;
  const cudaGraphExec_t executable = captured(stream, [&] {
    int* memory = nullptr;
    ASSERT_CUDA(cudaMallocAsync(&memory, sizeof(int), stream));
    ASSERT_CUDA(cudaMemsetAsync(memory, 0, sizeof(int), stream));
    ASSERT_CUDA(launched(add, 1, 1, stream, memory, 6));
    ASSERT_CUDA(cudaMemcpyAsync(sum.get(), memory, sizeof(int), cudaMemcpyDefault, stream));
    EXPECT_EQ(cudaFreeAsync(sum.get(), stream), cudaErrorInvalidValue) << "not of this graph";
    ASSERT_CUDA(cudaFreeAsync(memory, stream));
  });
  for (int i = 0; i < 3; ++i) {
    ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(sum[0], 6);
  }
  EXPECT_EQ(statistics().allocations, before + 1);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_EQ(statistics().allocations, before);
  cudaGetLastError();
}

TEST_F(GraphsTest, ABranchThatIsNotJoinedIsAnError) {
  const Array<int> sum(1);
  const Stream origin, branch;
  const Event fork;
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(origin, cudaStreamCaptureModeThreadLocal));
  ASSERT_CUDA(cudaEventRecord(fork, origin));
  ASSERT_CUDA(cudaStreamWaitEvent(branch, fork));
  ASSERT_CUDA(launched(add, 1, 1, branch, sum.get(), 1));
  EXPECT_EQ(cudaStreamEndCapture(origin, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  cudaGetLastError();
}

TEST_F(GraphsTest, LookingAtAStreamThatRecordsEndsTheCapture) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  cudaStreamCaptureStatus status{};
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  EXPECT_CUDA(cudaStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_CUDA(cudaStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
  int* none = nullptr;
  EXPECT_EQ(launched(add, 1, 1, stream, none, 1), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_CUDA(cudaStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  cudaGetLastError();
}

TEST_F(GraphsTest, AllocationDuringACaptureDependsOnTheMode) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  int* memory = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  EXPECT_CUDA(cudaMalloc(&memory, 4));
  ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  EXPECT_CUDA(cudaFree(memory));

  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  std::thread([&] {
    EXPECT_CUDA(cudaMalloc(&memory, 4));
    EXPECT_CUDA(cudaFree(memory));
  }).join();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  EXPECT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  EXPECT_CUDA(cudaMalloc(&memory, 4));
  EXPECT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
  EXPECT_EQ(cudaFree(memory), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_CUDA(cudaFree(memory));

  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  std::thread([&] { EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported); }).join();
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
}

TEST_F(GraphsTest, OtherMisusesOfACaptureAreErrors) {
  const Stream stream, outsider;
  const Event recorded_outside, event;
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);

  ASSERT_CUDA(cudaEventRecord(recorded_outside, outsider));
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_EQ(cudaStreamWaitEvent(stream, recorded_outside), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);

  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  ASSERT_CUDA(cudaEventRecord(event, stream));
  EXPECT_EQ(cudaEventQuery(event), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamWaitEvent(outsider, event), cudaErrorCapturedEvent);

  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  std::thread([&] {
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread);
  }).join();
  ASSERT_CUDA(cudaEventRecord(event, stream));
  ASSERT_CUDA(cudaStreamWaitEvent(outsider, event));
  EXPECT_EQ(cudaStreamEndCapture(outsider, &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
}

TEST_F(GraphsTest, EachCaptureHasANumberOfItsOwn) {
  const Stream stream;
  cudaStreamCaptureStatus status{};
  std::vector<unsigned long long> ids(2);
  for (unsigned long long& id : ids) {
    cudaGraph_t graph = nullptr;
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_CUDA(cudaStreamGetCaptureInfo(stream, &status, &id));
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    EXPECT_CUDA(cudaGraphDestroy(graph));
  }
  EXPECT_NE(ids[0], ids[1]);
}

}  // namespace
}  // namespace ringtree_emulator
