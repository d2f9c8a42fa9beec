// What the ranks of a communicator share, beside the links: who is there, what each is calling, and the
// first fault.
//
//     | Hall | Board, one a rank | Doorbell, one a rank | links (link/layout.h) |
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/call.h"
#include "core/doorbell.h"
#include "core/errors.h"
#include "core/platform.h"
#include "link/layout.h"

namespace ringtree {

inline constexpr int kMaxWorld = 1024;

/// The first thing that went wrong, for all to read. Written once, by whoever wins `state`.
struct FaultRecord {
  enum State : std::uint32_t { none, being_written, raised };

  std::uint32_t state;
  std::uint32_t kind;
  std::array<std::uint64_t, kMaxWorld / 64> ranks;  ///< a bit for each rank at fault
  std::array<char, 1024> text;
};

struct alignas(kCacheLine) Hall {
  std::uint32_t attached;    ///< ranks that have mapped the segment
  std::uint64_t reach_from;  ///< the first call in which ranks ask for one another's blocks; 0: not so far
  FaultRecord fault;
  std::array<std::uint64_t, 16> decisions;  ///< by round of shrink(): 1 + the rank whose proposal was taken
};

/// What one rank tells the others; written by it alone.
struct alignas(kCacheLine) Board {
  enum State : std::uint32_t { absent, present, left };
  enum Access : std::uint32_t { tried = 1, opens_files = 2, reads_memory = 4 };
  static constexpr int kRecords = 8;

  std::uint64_t arrived;  ///< the sequence number of the newest collective it has entered
  std::uint64_t done;     ///< of the newest it has finished
  std::uint32_t state;
  std::int32_t pid;
  std::uint64_t probe_address;  ///< in that process: where `probe` stands too, for those who may look
  std::uint64_t probe;
  std::uint32_t access;  ///< to its peers' memory: Access bits, 0 until it has tried
  std::array<std::array<std::uint64_t, 4>, kRecords> records;  ///< the newest CallHeaders

  std::uint64_t shrinking;                              ///< the round of shrink() it has come to
  std::uint64_t offered;                                ///< the round for which its note is written
  std::array<std::uint64_t, kMaxWorld / 64> survivors;  ///< what it proposes

  void enter(const CallHeader& call);

  /// The call that this rank made, or makes, under `sequence`; nothing if it has not come so far or if that
  /// was too long ago.
  std::optional<CallHeader> call(std::uint64_t sequence);
};

/// Finds the parts in the shared memory.
class Segment {
 public:
  Segment(std::byte* memory, int world) : memory_(memory), layout_(LinkLayout::of(world)) {}

  static std::size_t bytes(int world) { return links_offset(world) + LinkLayout::of(world).bytes(); }

  int world() const { return layout_.world; }
  const LinkLayout& layout() const { return layout_; }
  Hall& hall() const { return *reinterpret_cast<Hall*>(memory_); }
  Board& board(int rank) const { return reinterpret_cast<Board*>(memory_ + sizeof(Hall))[rank]; }
  Doorbell* doorbells() const { return reinterpret_cast<Doorbell*>(memory_ + doorbells_offset(world())); }
  std::byte* links() const { return memory_ + links_offset(world()); }

  void ring_everyone() const;

 private:
  static std::size_t doorbells_offset(int world) {
    return sizeof(Hall) + static_cast<std::size_t>(world) * sizeof(Board);
  }
  static std::size_t links_offset(int world) {
    return doorbells_offset(world) + static_cast<std::size_t>(world) * sizeof(Doorbell);
  }

  std::byte* memory_;
  LinkLayout layout_;
};

}  // namespace ringtree
