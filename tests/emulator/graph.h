// Capture: what streams are given is recorded as a graph. A graph runs as its edges allow.
#pragma once

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.h"

namespace ringtree_emulator {

struct Node {
  Work work;
  std::vector<std::size_t> after;  ///< nodes that come earlier in the graph
};
using Nodes = std::vector<Node>;

/// One sequence from cudaStreamBeginCapture() to cudaStreamEndCapture().
struct Capture {
  unsigned long long id;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  CUstream_st* origin;
  Nodes nodes;
  std::vector<CUstream_st*> streams;  ///< the origin, and those that joined by an event
  bool is_valid = true;
};

/// Guards all captures and which streams and events belong to them.
std::mutex& capture_mutex();

// These want the mutex held.
bool is_capturing(const CUstream_st& stream);
/// For calls that no capture allows on its streams.
cudaError_t refuse(Capture& capture, cudaError_t error);
/// `stream` waits for an event that was recorded in a capture.
cudaError_t join(CUstream_st& stream, const Captured& event);

/// A stream that is being destroyed can no longer be captured.
void leave_capture(CUstream_st& stream);
/// Invalidates the captures on streams of the device; whether there are any.
bool refuse_captures_on(int device);

/// Runs nodes, those that do not depend on each other at the same time. Called by the thread of a stream.
void run(const Nodes& nodes);

/// A graph that callers may destroy.
cudaGraph_t make_graph(Nodes nodes);

void count_graphs(Statistics& statistics);

}  // namespace ringtree_emulator
