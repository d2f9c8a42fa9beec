// Which peers are still processes. Ranks that are threads of this process live as long as it does.
#pragma once

#include <vector>

#include "communicator/segment.h"

namespace ringtree {

/// Whether there is no such process, or it has ended and waits to be reaped.
bool has_ended(int pid);

/// Holds a descriptor of each peer's process (pidfd), so a death is seen at once, also that of a zombie
/// whose parent has not reaped it, and a reused process number is never mistaken for the peer.
class Liveness {
 public:
  Liveness(Segment& segment, int rank);
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;
  ~Liveness();

  /// Ranks whose process has ended.
  std::vector<int> dead() const;

 private:
  struct Watched {
    int rank;
    int descriptor;  ///< negative: the process had ended before it could be watched
  };
  std::vector<Watched> watched_;
};

}  // namespace ringtree
