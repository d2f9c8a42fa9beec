// How descriptors come to ranks of other processes: each pair has a socket (unix(7), SCM_RIGHTS). No thread
// serves it. Who has something to give sends it, which waits for nobody, and the peer looks once it knows
// that there is something.
//
// Unlike pidfd_getfd(), this takes neither ptrace's permission, which Yama and the usual profiles of
// containers refuse, nor a common process namespace; only the same user and network namespace.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/descriptor.h"
#include "core/gpu.h"

namespace ringtree {

class Post {
 public:
  /// What the kernel takes at once (SCM_MAX_FD).
  static constexpr std::size_t kMostDescriptors = 253;

  /// Collective; exchanges twice. Ranks that are near need none, and one that cannot be reached has none.
  Post(std::size_t rank, const std::vector<bool>& is_near, const GpuExchange& exchange);

  enum class Sent {
    yes,
    later,  ///< the peer has not looked for long, or the user has too many descriptors under way
    never,  ///< there is no way to the peer, or it has gone
  };
  /// Copies of 1 to kMostDescriptors.
  Sent send(std::size_t peer, std::span<const int> descriptors);

  /// What came with the peer's next message; empty: nothing new has arrived, or ever will.
  std::vector<Descriptor> receive(std::size_t peer);

 private:
  std::vector<Descriptor> peers_;  ///< sockets by rank
};

}  // namespace ringtree
