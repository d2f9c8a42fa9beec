#include "communicator/segment.h"

#include <sys/mman.h>
#include <unistd.h>

namespace ringtree {
namespace {

#ifndef MADV_POPULATE_WRITE
constexpr int MADV_POPULATE_WRITE = 23;  // of Linux 5.14
#endif

/// Maps the pages of [begin, begin + bytes) to be written, where the kernel can.
void populate(std::byte* begin, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = address / page * page;
  madvise(reinterpret_cast<void*>(first), address + bytes - first, MADV_POPULATE_WRITE);
}

}  // namespace

void Segment::prepare_to_write(int rank) const {
  if (layout_.window.rooms > 1)
    populate(links() + layout_.windows_offset() + static_cast<unsigned>(rank) * layout_.window.bytes(),
             layout_.window.bytes());
  if (layout_.lane.rooms > 1)  // a rank's lanes lie one behind the other
    populate(links() + layout_.lane_offset(rank, rank == 0 ? 1 : 0),
             static_cast<unsigned>(world() - 1) * lane_bytes(layout_.lane));
}

void Segment::ring_everyone() const {
  for (int rank = 0; rank < world(); ++rank) doorbells()[rank].ring();
}

}  // namespace ringtree
