#include "core/doorbell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace ringtree {

void Doorbell::ring() {
  __atomic_fetch_add(&rings, 1, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, &rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Doorbell::sleep(std::uint32_t ticket, std::int64_t microseconds) {
  const timespec limit{microseconds / 1'000'000, (microseconds % 1'000'000) * 1'000};
  syscall(SYS_futex, &rings, FUTEX_WAIT, ticket, &limit, nullptr, 0);
}

}  // namespace ringtree
