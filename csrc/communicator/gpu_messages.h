// What a rank sends and receives on its GPU: names for what is under way there.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "communicator/letter.h"
#include "communicator/segment.h"
#include "core/gpu.h"

namespace ringtree {

/// The calls whose kernels are not known to be over. Those of graphs that are replayed later are forgotten
/// with the rest.
class GpuMessages {
 public:
  GpuMessages(Segment& segment, int rank) : segment_(&segment), rank_(rank) {}

  /// Enters the letters of a call on the board. Returns the call's number, as kernels tell it.
  std::uint64_t begin(const std::vector<Letter>& letters);
  /// Calls up to this number are over.
  void end(std::uint64_t sequence);

  /// Whether `peer` takes part in the call.
  bool needs(std::uint64_t sequence, int peer) const;
  /// Whether `peer`, which has left, has never made its part.
  bool lacks(std::uint64_t sequence, int peer) const;
  /// "send #3 to rank 1 (float32 x 8, on the GPU)": the first of the call's letters, or the one of `peer`.
  std::string describe(std::uint64_t sequence, int peer = -1) const;
  /// Raises the fault that the kernel of a call has met.
  void tell(const GpuFault& fault, double timeout_seconds) const;

 private:
  struct Sent {
    Letter letter;
    std::uint64_t number;  ///< among the letters of its direction between the two ranks
    std::uint64_t place;   ///< on the board
  };
  struct Call {
    std::uint64_t sequence;
    std::vector<Sent> letters;
  };

  std::uint64_t& count_of(int rank, bool outgoing, int peer) const;
  std::vector<Sent> letters_of(std::uint64_t sequence) const;

  Segment* segment_;
  int rank_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::uint64_t calls_ = 0;
  std::deque<Call> under_way_;
};

}  // namespace ringtree
