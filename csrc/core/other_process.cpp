#include "core/other_process.h"

#include <sys/uio.h>

#include <cerrno>

namespace ringtree {

int read_memory_of(int pid, void* destination, const void* source, std::size_t bytes) {
  auto* to = static_cast<std::byte*>(destination);
  const auto* from = static_cast<const std::byte*>(source);
  while (bytes != 0) {
    const iovec local{to, bytes}, remote{const_cast<std::byte*>(from), bytes};
    const ssize_t moved = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (moved <= 0) return moved < 0 ? errno : EFAULT;
    to += moved;
    from += moved;
    bytes -= static_cast<std::size_t>(moved);
  }
  return 0;
}

}  // namespace ringtree
