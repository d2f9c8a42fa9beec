#include "communicator/blocks.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/errors.h"

namespace ringtree {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20U;
constexpr std::size_t kSlab = 2 * kHugePage;  ///< a file that small blocks share
constexpr std::size_t kOwnFile = kHugePage;   ///< from so many bytes on a block has a file of its own

struct File {
  std::byte* data;
  std::size_t size;
  std::uint32_t number;
  int descriptor;
};

/// Sizes that are handed out: powers of two, and three steps between them above small blocks, so that at most
/// a quarter is wasted and what was freed fits what comes next.
std::size_t rounded(std::size_t bytes) {
  const std::size_t power = std::bit_ceil(bytes < kPage ? kPage : bytes);
  if (power <= kOwnFile) return power;
  const std::size_t step = power / 8 < kHugePage ? kHugePage : power / 8;
  return (bytes + step - 1) / step * step;
}

class Blocks {
 public:
  std::byte* take(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    std::vector<std::byte*>& free = free_[size];
    if (free.empty()) add(size, free);
    std::byte* block = free.back();
    free.pop_back();
    return block;
  }

  void give_back(std::byte* block, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    free_[rounded(bytes)].push_back(block);
  }

  std::optional<Place> place_of(const std::byte* memory, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto after = files_.upper_bound(memory);
    if (after == files_.begin()) return std::nullopt;
    const File& file = std::prev(after)->second;
    const auto offset = static_cast<std::size_t>(memory - file.data);
    if (offset + bytes > file.size) return std::nullopt;
    return Place{file.number, file.descriptor, offset};
  }

  std::atomic<bool> used{false};

 private:
  /// A new file: one block, or a slab of small ones.
  void add(std::size_t size, std::vector<std::byte*>& free) {
    const std::size_t file_size = size < kOwnFile ? kSlab : size;
    std::byte* data = make_file(file_size);
    for (std::size_t offset = file_size; offset >= size; offset -= size) free.push_back(data + offset - size);
  }

  std::byte* make_file(std::size_t size) {
    const int descriptor = memfd_create("ringtree", MFD_CLOEXEC);
    void* data = MAP_FAILED;
    if (descriptor >= 0 && ftruncate(descriptor, static_cast<off_t>(size)) == 0)
      data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (data != MAP_FAILED) {
      madvise(data, size, MADV_HUGEPAGE);
      // Now, so that memory that is not there is an error here and no SIGBUS later. Linux before 5.14 says
      // EINVAL, and takes that risk.
      if (madvise(data, size, MADV_POPULATE_WRITE) == 0 || errno == EINVAL) {
        auto* bytes = static_cast<std::byte*>(data);
        files_[bytes] = {bytes, size, ++numbers_, descriptor};
        used = true;
        return bytes;
      }
    }
    const std::string why = std::strerror(errno);
    if (data != MAP_FAILED) munmap(data, size);
    if (descriptor >= 0) close(descriptor);
    throw TransportError("allocating " + std::to_string(size) + " bytes that peers can map failed: " + why);
  }

  std::mutex mutex_;
  std::map<const std::byte*, File> files_;
  std::map<std::size_t, std::vector<std::byte*>> free_;
  std::uint32_t numbers_ = 0;
};

/// Never destroyed: arrays may outlive everything that is.
Blocks& blocks() {
  static auto* const instance = new Blocks;
  return *instance;
}

}  // namespace

std::shared_ptr<std::byte> allocate_block(std::size_t bytes) {
  return {blocks().take(bytes), [bytes](std::byte* block) { blocks().give_back(block, bytes); }};
}

std::optional<Place> place_of(const void* memory, std::size_t bytes) {
  return has_blocks() ? blocks().place_of(static_cast<const std::byte*>(memory), bytes) : std::nullopt;
}

bool has_blocks() { return blocks().used.load(std::memory_order_relaxed); }

MappedFile::MappedFile(int pid, int descriptor) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  struct stat status{};
  if (fstat(file, &status) == 0) {
    size_ = static_cast<std::size_t>(status.st_size);
    void* data = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (data != MAP_FAILED) {
      data_ = static_cast<std::byte*>(data);
      madvise(data, size_, MADV_HUGEPAGE);
    }
  }
  close(file);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace ringtree
