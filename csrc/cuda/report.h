// What kernels tell the host about themselves, and what the host tells them.
#pragma once

#include <cstdint>

namespace ringtree {

/// One a rank, in memory of the host that its kernels reach.
struct DeviceReport {
  enum Kind : std::uint64_t { none, timeout, mismatch, told };

  std::uint64_t raised;    ///< a Kind; `told` is the host's, which knows the reason. Every wait ends then
  std::uint64_t peer;      ///< whom the first block that gave up was waiting for
  std::uint64_t sequence;  ///< of the call that it gave up

  std::uint64_t sent;  ///< the digest of a message that its receiver did not expect

  alignas(16) std::uint64_t begun;  ///< kernels, those of replayed graphs too
  std::uint64_t newest;             ///< sequence number of the call that began last; stored with `begun`
  std::uint64_t ended;              ///< kernels, as `begun`
  std::uint64_t ended_together;     ///< of them those of collectives
  std::uint64_t finished;           ///< the largest sequence number of a collective that ran to its end
  std::uint64_t finished_messages;  ///< and of messages
};

}  // namespace ringtree
