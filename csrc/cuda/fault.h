// The word through which the host and the device tell each other that a call has failed.
#pragma once

#include <cstdint>

namespace ringtree {

/// One a rank, in memory of the host that its kernels reach.
struct DeviceFault {
  enum Kind : std::uint64_t { none, timeout, mismatch, told };

  std::uint64_t raised;    ///< a Kind; `told` is the host's, which knows the reason. Every wait ends then
  std::uint64_t peer;      ///< whom the first block that gave up was waiting for
  std::uint64_t sequence;  ///< of the call that it gave up
  std::uint64_t finished;  ///< the sequence number of the newest call that has run to its end
};

}  // namespace ringtree
