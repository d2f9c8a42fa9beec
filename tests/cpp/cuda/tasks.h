// Calls in the fabric's words, made of an algorithm's name and a number of elements for each rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "communicator/host_entry.h"
#include "core/call.h"
#include "core/errors.h"
#include "core/gpu.h"
#include "cuda/values.h"

namespace ringtree::testing {

/// Of int32, each rank giving or getting `count` in its share.
inline GpuTask task_of(std::uint8_t algorithm, std::size_t count, int world) {
  GpuTask task{algorithm};
  task.dtype = DType::int32;
  task.timeout_seconds = 60;
  task.in_bytes = task.out_bytes = task.share = count * kWidth;
  const std::size_t all = task.share * static_cast<std::size_t>(world);
  switch (catalogue()[algorithm].collective) {
    case Collective::all_gather:
    case Collective::gather: task.out_bytes = all; break;
    case Collective::reduce_scatter:
    case Collective::scatter: task.in_bytes = all; break;
    case Collective::all_to_all: task.in_bytes = task.out_bytes = all; break;
    case Collective::broadcast: task.in_bytes = 0; break;
    default: break;
  }
  return task;
}

inline std::uint8_t algorithm_called(Collective collective, const std::string& name) {
  for (std::size_t i = 0; i < catalogue().size(); ++i)
    if (catalogue()[i].collective == collective && catalogue()[i].name == name)
      return static_cast<std::uint8_t>(i);
  throw InvalidArgument("no algorithm is called " + name);
}

inline GpuTask all_reduce_task(const std::string& name, std::size_t count, int world) {
  return task_of(algorithm_called(Collective::all_reduce, name), count, world);
}

/// As the communicator numbers calls.
inline GpuTask numbered(GpuTask task, std::uint64_t sequence) {
  CallHeader header{};
  header.sequence = task.sequence = sequence;
  header.count = task.share;
  header.collective = static_cast<std::uint8_t>(catalogue()[task.algorithm].collective);
  header.dtype = static_cast<std::uint8_t>(task.dtype);
  header.op = static_cast<std::uint8_t>(task.op);
  header.algorithm = task.algorithm;
  header.root = task.root;
  task.digest = digest_of(header);
  return task;
}

}  // namespace ringtree::testing
