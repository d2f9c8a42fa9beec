// How ranks come to read, and write, each other's buffers themselves, for the algorithms called zero_copy.
//
// Ranks that are threads of one process just do. Between processes a buffer is reached if it lies in a block
// (communicator/blocks.h), which the peers map when they first meet it; or, to copy from it only, through the
// kernel, where that is permitted and quick. At the beginning of a call that could gain by it, each rank
// shows the others an offer of its buffers. All see the same offers, and so decide alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "communicator/blocks.h"
#include "communicator/host_entry.h"
#include "communicator/segment.h"
#include "core/call.h"
#include "core/team.h"
#include "link/links.h"

namespace ringtree {

/// What a rank says about its buffers: small enough to travel in the line of a slot's flag.
struct Offer {
  enum Flag : std::uint32_t {
    mapped = 1,  ///< peers can map what they may need: all of it lies in blocks
    fresh = 2,   ///< names one of their files for the first time
    quick = 4,   ///< not mapped, but the kernel copies the input quickly
    reads = 8,   ///< this rank may read the memory of every peer
  };

  std::uint64_t input, output;  ///< an offset in a file if mapped, else an address
  std::uint32_t input_file, output_file;
  std::int32_t input_descriptor, output_descriptor;
  std::uint32_t flags;
};

/// One rank's buffers, as far as its peers may need them; null where they do not.
struct Exposed {
  const void* input;
  std::size_t input_bytes;
  void* output;
  std::size_t output_bytes;
};

/// A number of this process that peers can compare with what they read at its address.
const std::uint64_t& probe_word();

class Reach {
 public:
  Reach(Segment& segment, int rank, bool shares_process);
  Reach(const Reach&) = delete;
  Reach& operator=(const Reach&) = delete;

  /// The algorithm of a collective that needs this; nothing if there is none.
  static std::optional<std::uint8_t> algorithm_for(Collective collective);

  /// Whether the ranks show each other their buffers in this call. The same on all ranks, if each asks as it
  /// enters the call. `bytes` as in Priced.
  bool is_worth_asking(const CallHeader& call, std::size_t bytes);

  /// Shows the peers this rank's buffers and looks at theirs; whether an algorithm with this access can run.
  /// `forced`: even if it is slow. The same on all ranks.
  bool meet(Solo& team, const Links& links, const Exposed& own, Access access, bool forced);

  /// What a message to `peer` says instead of carrying its bytes; nothing if they had better be carried.
  /// `both_ways`: the same call receives, too. For any thread, as is copy_from().
  std::optional<Offer> offer_to(int peer, const void* memory, std::size_t bytes, bool both_ways) const;
  /// Copies a part of what `peer` has offered so. Returns 0, or the errno that says why it could not.
  int copy_from(int peer, const Offer& offer, std::size_t offset, void* destination, std::size_t bytes,
                bool streamed);

  /// Gives back what is mapped of the peers.
  void forget();

  /// Where the buffers of all ranks are, after such a meeting.
  const void** inputs() { return inputs_.data(); }
  void** outputs() { return outputs_.data(); }

 private:
  void announce(std::uint64_t sequence);
  bool kernel_is_worth_asking(const CallHeader& call, std::size_t bytes) const;
  Offer offer(const Exposed& own);
  void try_access();
  bool map_what_is_fresh();
  bool is_allowed(Access access, bool forced);
  void resolve(const Exposed& own);
  std::byte* at(int rank, std::uint32_t file, std::int32_t descriptor, std::uint64_t offset);

  Segment* segment_;
  int rank_;
  bool shares_process_;
  bool announced_ = false;    ///< that this process has blocks
  bool can_map_ = true;       ///< until some rank could not
  std::uint32_t access_ = 0;  ///< this rank's Board::Access
  bool all_read_all_ = true;  ///< until an offer says otherwise
  bool kernel_pays_ = false;  ///< in this call
  unsigned misses_ = 0;       ///< times in a row that asking was for nothing
  unsigned pause_ = 0;        ///< calls before the next time

  std::set<std::uint32_t> named_;  ///< files in earlier offers of this rank
  std::mutex mutex_;               ///< guards the files
  std::map<std::pair<int, std::uint32_t>, std::unique_ptr<MappedFile>> files_;
  std::vector<Offer> offers_;
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  std::vector<std::int32_t> processes_;  ///< in whose memory an input is; 0 if it is mapped here
};

}  // namespace ringtree
