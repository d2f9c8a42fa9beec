// A message between two ranks, as one of them sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"

namespace ringtree {

/// One direction of one call.
struct Letter {
  bool outgoing;
  int peer;
  std::byte* data;  ///< only read if outgoing
  std::size_t count;
  DType dtype;

  const char* name() const { return outgoing ? "send" : "recv"; }
  std::size_t bytes() const { return count * size_of(dtype); }
};

/// What a message says about itself. Not a hash: the receiver can put the sender's call into words.
std::uint64_t digest_of(const Letter& letter);

/// Whether a word may be one of those. What collectives say of themselves hardly ever is.
bool is_digest(std::uint64_t word);

/// "float32 x 8"
std::string contents(std::uint64_t digest);

/// "send #3 to rank 1 (float32 x 8)"; `number` counts the letters of its direction between the two ranks.
std::string describe(const Letter& letter, std::uint64_t number, bool on_gpu = false);

/// "rank 0 sent float32 x 8 to rank 1, which receives int32 x 8."
std::string describe_mismatch(const Letter& letter, int rank, std::uint64_t sent_digest);

/// "send #3 to rank 1 (float32 x 8) was not answered within 30 s: ..."
std::string describe_unanswered(const std::string& letter, int peer, double seconds);

}  // namespace ringtree
