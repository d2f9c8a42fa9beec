// Memory of another process of this host, read by the kernel (Linux's cross-memory attach).
#pragma once

#include <cstddef>

namespace ringtree {

/// Copies `bytes` from `source` in the memory of the process `pid`. Returns 0, or the errno that says why
/// not.
int read_memory_of(int pid, void* destination, const void* source, std::size_t bytes);

}  // namespace ringtree
