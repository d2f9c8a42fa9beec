// Memory that CUDA's virtual memory management made: physical chunks, each with a handle of its own, which
// somebody has mapped one behind the other (PyTorch's expandable segments). Here is what it takes to give
// such chunks to another process by file descriptor, and to map there what it has got.
//
// Nothing throws. Where a step fails there is nothing, and the call goes through the links.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/descriptor.h"
#include "core/gpu.h"

namespace ringtree {

/// A reference to physical memory. While one lives no other memory gets the same handle.
class MemoryHandle {
 public:
  MemoryHandle() = default;
  /// Takes over one reference.
  explicit MemoryHandle(CUmemGenericAllocationHandle value) : value_(value) {}
  MemoryHandle(MemoryHandle&& other) noexcept : value_(std::exchange(other.value_, 0)) {}
  MemoryHandle& operator=(MemoryHandle&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~MemoryHandle();

  CUmemGenericAllocationHandle value() const { return value_; }

 private:
  CUmemGenericAllocationHandle value_ = 0;  ///< 0: to none
};

/// One that is mapped in this process.
struct Chunk {
  std::uintptr_t base = 0;
  std::size_t bytes = 0;
  MemoryHandle handle{};
};

/// The chunks that [memory, memory + bytes) touches, by address; empty if they are not all such memory, or
/// more than `most`.
std::vector<Chunk> chunks_of(const void* memory, std::size_t bytes, std::size_t most);

/// Whether it still is. It keeps its handle, so nothing else passes for it.
bool is_mapped(const Chunk& chunk);

/// For other processes; -1 if the chunk was not made for that, or is not all of its memory.
Descriptor exported(const Chunk& chunk);

/// A peer's chunks, one behind the other, where kernels of the calling thread's device read and write them.
class MappedRun {
 public:
  /// `descriptors` of `chunks`.
  static std::optional<MappedRun> of(std::span<const Descriptor> descriptors,
                                     std::span<const GpuBlockTable::Chunk> chunks);

  MappedRun(MappedRun&& other) noexcept
      : base_(std::exchange(other.base_, 0)),
        bytes_(other.bytes_),
        mapped_(std::exchange(other.mapped_, {})) {}
  MappedRun& operator=(MappedRun&&) = delete;
  ~MappedRun();

  std::byte* base() const { return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(base_)); }

 private:
  MappedRun() = default;

  CUdeviceptr base_ = 0;  ///< of the reserved addresses; 0: there are none
  std::size_t bytes_ = 0;
  std::vector<std::pair<CUdeviceptr, std::size_t>> mapped_;  ///< chunks
};

}  // namespace ringtree
