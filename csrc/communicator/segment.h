// What the ranks of a communicator share, beside the links: who is there, what each is calling, and the
// first fault.
//
//     | Hall | Board, one a rank | Doorbell, one a rank | links (link/layout.h) |
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "communicator/board.h"
#include "core/doorbell.h"
#include "core/errors.h"
#include "core/platform.h"
#include "link/layout.h"

namespace ringtree {

/// The first thing that went wrong, for all to read. Written once, by whoever wins `state`.
struct FaultRecord {
  enum State : std::uint32_t { none, being_written, raised };

  std::uint32_t state;
  std::uint32_t kind;
  std::array<std::uint64_t, kMaxWorld / 64> ranks;  ///< a bit for each rank at fault
  std::array<char, 1024> text;
};

struct alignas(kCacheLine) Hall {
  std::uint64_t layout;  ///< kSegmentLayout, for those who look from outside
  std::uint32_t world;
  std::array<char, 44> name;   ///< of the communicator: random
  std::array<char, 64> label;  ///< what the program calls it, if anything
  std::uint32_t attached;      ///< ranks that have mapped the segment
  std::uint32_t is_roomy;      ///< LinkLayout::of()
  std::uint64_t reach_from;    ///< the first call in which ranks ask for one another's blocks; 0: not so far
  FaultRecord fault;
  std::array<std::uint64_t, 16> decisions;  ///< by round of shrink(): 1 + the rank whose proposal was taken
};

/// Differs wherever Hall or Board are laid out differently.
inline constexpr std::uint64_t kSegmentLayout = 0x72696E6774726565U ^ (sizeof(Hall) << 40U) ^
                                                (sizeof(Board) << 16U) ^ 2U;  // "ringtree"; count up the last

/// Finds the parts in the shared memory.
class Segment {
 public:
  Segment(std::byte* memory, int world)
      : memory_(memory), layout_(LinkLayout::of(world, reinterpret_cast<Hall*>(memory)->is_roomy != 0)) {}

  static std::size_t bytes(int world, bool roomy) {
    return head_bytes(world) + LinkLayout::of(world, roomy).bytes();
  }
  /// Of what comes before the links.
  static std::size_t head_bytes(int world) {
    return doorbells_offset(world) + static_cast<std::size_t>(world) * sizeof(Doorbell);
  }

  int world() const { return layout_.world; }
  const LinkLayout& layout() const { return layout_; }
  Hall& hall() const { return *reinterpret_cast<Hall*>(memory_); }
  Board& board(int rank) const { return reinterpret_cast<Board*>(memory_ + sizeof(Hall))[rank]; }
  Doorbell* doorbells() const { return reinterpret_cast<Doorbell*>(memory_ + doorbells_offset(world())); }
  std::byte* links() const { return memory_ + head_bytes(world()); }

  /// Has pages mapped where `rank` goes round: one that is touched for the first time takes as long as
  /// writing to it, which would look as if going round were slow.
  void prepare_to_write(int rank) const;
  void ring_everyone() const;

 private:
  static std::size_t doorbells_offset(int world) {
    return sizeof(Hall) + static_cast<std::size_t>(world) * sizeof(Board);
  }

  std::byte* memory_;
  LinkLayout layout_;
};

}  // namespace ringtree
