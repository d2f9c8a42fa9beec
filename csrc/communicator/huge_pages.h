// Whether memory of this process lies in huge pages. The kernel copies between processes page by page: from
// huge pages as quickly as memcpy, from small ones at a fraction of that (docs/measuring.md).
#pragma once

#include <cstddef>

namespace ringtree {

/// Whether nearly all of it does. False where the kernel cannot say (Linux before 6.7).
bool lies_in_huge_pages(const void* memory, std::size_t bytes);

}  // namespace ringtree
