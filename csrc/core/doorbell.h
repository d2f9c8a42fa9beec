// One doorbell a rank: where its threads sleep, and what a peer rings after it has published something.
#pragma once

#include <cstdint>

#include "core/platform.h"

namespace ringtree {

/// A ring is only worth a system call while somebody sleeps, so the sleeper first says that it will:
///
///     sleeper: sleepers += 1; read rings; look again; sleep while rings is unchanged
///     ringer:  publish;       read sleepers; if any: rings += 1, wake
///
/// Each side's write comes before its read in one total order (seq_cst), so one of the two sees the other.
/// tests/model/doorbell.pml checks this in every interleaving, and that it fails with less than seq_cst.
struct alignas(kCacheLine) Doorbell {
  std::uint32_t rings;
  std::uint32_t sleepers;

  std::uint32_t announce() {
    __atomic_fetch_add(&sleepers, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&rings, __ATOMIC_SEQ_CST);
  }

  void retire() noexcept { __atomic_fetch_sub(&sleepers, 1, __ATOMIC_RELEASE); }

  void ring_if_awaited() {
    if (AtomicRef(sleepers).load(seq_cst) != 0) ring();
  }

  void ring();

  /// Sleeps until a ring newer than `ticket` or for `microseconds`; may return early.
  void sleep(std::uint32_t ticket, std::int64_t microseconds);
};

}  // namespace ringtree
