#include "communicator/huge_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <mutex>

namespace ringtree {
namespace {

// linux/fs.h has these from Linux 6.7 on; the kernel that builds may be older than the one that runs.
struct PageRegion {
  std::uint64_t start, end, categories;
};

struct PageScan {
  std::uint64_t size, flags, start, end, walk_end, regions, n_regions, max_pages, category_inverted,
      category_mask, category_anyof_mask, return_mask;
};

constexpr unsigned long kPageScan = _IOWR('f', 16, PageScan);
constexpr std::uint64_t kIsHuge = 1U << 6U;
constexpr std::uint64_t kPage = 4096;

/// /proc/self/pagemap of whoever asks: a forked child has to open its own.
int pagemap() {
  static std::mutex mutex;
  static int descriptor = -1, owner = 0;
  const std::lock_guard lock(mutex);
  if (owner != getpid()) {
    descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    owner = getpid();
  }
  return descriptor;
}

/// What was found of a buffer, for its next uses: asking takes about a microsecond. Pages that have changed
/// since are noticed late, which costs time and nothing else.
struct Found {
  const void* memory = nullptr;
  std::size_t bytes = 0;
  unsigned uses_left = 0;
  bool huge = false;
};
constexpr unsigned kUses = 64;
constexpr std::size_t kRemembered = 16;

bool ask(const void* memory, std::size_t bytes) {
  constexpr std::size_t kShareOfSmallPages = 8;  // one in so many may be small: the ends of a buffer
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  std::array<PageRegion, 4> small{};
  PageScan scan{};
  scan.size = sizeof(scan);
  scan.start = begin / kPage * kPage;
  scan.end = (begin + bytes + kPage - 1) / kPage * kPage;
  scan.regions = reinterpret_cast<std::uintptr_t>(small.data());
  scan.n_regions = small.size();
  scan.max_pages = bytes / kPage / kShareOfSmallPages + 1;
  scan.category_inverted = scan.category_mask = scan.return_mask = kIsHuge;
  const int found = ioctl(pagemap(), kPageScan, &scan);
  if (found < 0) return false;
  std::uint64_t pages = 0;
  for (int i = 0; i < found; ++i) {
    const PageRegion& region = small[static_cast<std::size_t>(i)];
    pages += (region.end - region.start) / kPage;
  }
  return pages < scan.max_pages && static_cast<std::size_t>(found) < small.size();
}

}  // namespace

bool lies_in_huge_pages(const void* memory, std::size_t bytes) {
  thread_local std::array<Found, kRemembered> remembered;
  Found& found = remembered[(reinterpret_cast<std::uintptr_t>(memory) >> 12U) % kRemembered];
  if (found.uses_left == 0 || found.memory != memory || found.bytes != bytes)
    found = {memory, bytes, kUses, ask(memory, bytes)};
  --found.uses_left;
  return found.huge;
}

}  // namespace ringtree
