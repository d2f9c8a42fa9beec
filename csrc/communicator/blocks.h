// Memory that peers can map: what comm.empty() hands out.
//
// A block lies in a file without a name (memfd), in huge pages where the kernel has them. Peers open it as
// /proc/<pid>/fd/<descriptor>, which takes the same user, and nothing of it outlives its last process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace ringtree {

/// `bytes` bytes, aligned to 4 KiB, of whatever content; given back with the last copy of the pointer, for
/// the next one that asks: freed memory stays with the process. Throws TransportError.
std::shared_ptr<std::byte> allocate_block(std::size_t bytes);

/// Where a buffer lies that is part of a block, in words that another process understands.
struct Place {
  std::uint32_t file;       ///< never reused in this process; 0 is none
  std::int32_t descriptor;  ///< of that file, here
  std::uint64_t offset;
};

std::optional<Place> place_of(const void* memory, std::size_t bytes);

/// Whether this process has ever allocated a block.
bool has_blocks();

/// A peer's file, mapped whole.
class MappedFile {
 public:
  /// `data()` is null if that is not permitted, or the process is gone.
  MappedFile(int pid, int descriptor);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace ringtree
