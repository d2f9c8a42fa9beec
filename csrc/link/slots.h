// Message steps between two ranks: a lane of slots with credits, in memory that both can reach.
//
//     sender                                             receiver
//     claim:   wait until a slot is drained              arrival: wait until the slot is filled, compare
//     write the piece                                    read the piece
//     publish: filled = turn + 1        ------------>    release: drained = turn + 1  --->  (a credit)
//
// Messages of one lane are numbered by `turn`, which both sides count alone; slot = turn mod slots. The
// counters only grow and have 64 bits: at one message a nanosecond they last five centuries.
//
// tests/model/lane.pml checks this in every interleaving.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/platform.h"

namespace ringtree {

/// The first line of a slot. A piece that fits `small` travels in the same cache line as its flag, so a
/// small message costs one transfer between cores instead of two.
struct alignas(kCacheLine) SlotHeader {
  std::uint64_t filled;  ///< turn + 1 of the message inside
  std::uint64_t digest;  ///< of the call the message belongs to
  std::uint32_t bytes;
  std::uint32_t offset;  ///< behind this header, of a piece that does not fit `small`
  std::byte small[kCacheLine - 3 * sizeof(std::uint64_t)];

  /// Where the `size` bytes of a piece lie: here, or behind this header.
  RT_HD std::byte* data(std::size_t size) { return data_at(offset, size); }
  RT_HD std::byte* data_at(std::uint32_t place, std::size_t size) {
    return size <= sizeof(small) ? small : reinterpret_cast<std::byte*>(this + 1) + place;
  }
};

struct alignas(kCacheLine) Counter {
  std::uint64_t value;
};

struct SlotShape {
  int slots;               ///< a power of two
  std::size_t slot_bytes;  ///< of a piece, at most; a multiple of the cache line
  int rooms;               ///< for so many pieces, one of which is there at a time (core/slot_ways.h)

  RT_HD constexpr std::size_t room_bytes() const { return static_cast<unsigned>(rooms) * slot_bytes; }
  RT_HD constexpr std::size_t stride() const { return sizeof(SlotHeader) + room_bytes(); }
  RT_HD constexpr std::size_t bytes() const { return static_cast<std::size_t>(slots) * stride(); }

  RT_HD SlotHeader& at(std::byte* slots_begin, std::uint64_t turn) const {
    return *reinterpret_cast<SlotHeader*>(slots_begin +
                                          (turn & (static_cast<unsigned>(slots) - 1)) * stride());
  }

  /// Where a piece of `bytes` bytes lies behind its header if its writer goes round.
  RT_HD std::uint32_t offset_of(std::uint64_t turn, std::size_t bytes) const {
    const std::size_t lines = (bytes + kCacheLine - 1) / kCacheLine;
    const std::uint64_t round = turn / static_cast<unsigned>(slots);
    return static_cast<std::uint32_t>(round % (room_bytes() / kCacheLine / lines) * lines * kCacheLine);
  }
};

/// How far one side of a lane has come. Private to its rank; on the device, written by the leader alone.
struct LaneCursor {
  std::uint64_t turn;
  std::uint64_t drained;  ///< the receiver's counter as last seen: spares the sender a cache miss a message
};

/// A slot in the hands of one side. All lanes of a team hold the same values.
struct Claim {
  SlotHeader* header;
  std::uint64_t turn;
  std::byte* data;
  std::uint32_t offset;  ///< of the header, for its writer
};

/// The slot of `turn` for its writer, who goes round in its room or not.
RT_HD inline Claim claim_of(SlotHeader& header, SlotShape shape, std::uint64_t turn, std::size_t bytes,
                            bool roams) {
  const std::uint32_t offset = roams ? shape.offset_of(turn, bytes) : 0;
  return {&header, turn, header.data_at(offset, bytes), offset};
}

/// Says what is in the slot; for the leader, before it hands the slot over.
RT_HD inline void label(const Claim& claim, std::uint64_t digest, std::size_t bytes) {
  claim.header->digest = digest;
  claim.header->bytes = static_cast<std::uint32_t>(bytes);
  claim.header->offset = claim.offset;
}

class Sender {
 public:
  RT_HD Sender(std::byte* lane, SlotShape shape, LaneCursor& cursor, std::uint64_t digest, int peer)
      : lane_(lane), shape_(shape), cursor_(&cursor), digest_(digest), peer_(peer) {}

  RT_HD int peer() const { return peer_; }

  /// Whether a slot is free.
  RT_HD bool ready(Order order) const {
    const auto slots = static_cast<unsigned>(shape_.slots);
    if (cursor_->turn - cursor_->drained < slots) return true;
    cursor_->drained = AtomicRef(drained()).load(order);  // pairs with: the signal in release()
    return cursor_->turn - cursor_->drained < slots;
  }

  /// Whether the receiver has given back the slot of `turn`.
  RT_HD bool is_drained(std::uint64_t turn, Order order) const {
    if (cursor_->drained > turn) return true;
    cursor_->drained = AtomicRef(drained()).load(order);  // pairs with: the signal in release()
    return cursor_->drained > turn;
  }

  /// Waits for a free slot; the caller writes the piece to `.data`. `roams`: goes round in the slot's room.
  template <class Team>
  RT_HD Claim claim(Team& team, std::size_t bytes, bool roams = false) {
    const std::uint64_t turn = cursor_->turn;
    team.await(peer_, [this](Order order) { return ready(order); });
    return claim_of(shape_.at(lane_ + sizeof(Counter), turn), shape_, turn, bytes, roams);
  }

  /// Hands the slot over.
  template <class Team>
  RT_HD void publish(Team& team, const Claim& claim, std::size_t bytes) {
    if (team.leads()) {
      label(claim, digest_, bytes);
      cursor_->turn = claim.turn + 1;
    }
    team.signal(peer_, claim.header->filled, claim.turn + 1);  // pairs with: the load in arrival()
  }

 private:
  RT_HD std::uint64_t& drained() const { return reinterpret_cast<Counter*>(lane_)->value; }

  std::byte* lane_;
  SlotShape shape_;
  LaneCursor* cursor_;
  std::uint64_t digest_;
  int peer_;
};

class Receiver {
 public:
  RT_HD Receiver(std::byte* lane, SlotShape shape, LaneCursor& cursor, std::uint64_t digest, int peer)
      : lane_(lane), shape_(shape), cursor_(&cursor), digest_(digest), peer_(peer) {}

  /// Where the next message lies once ready().
  RT_HD SlotHeader& next() const { return shape_.at(lane_ + sizeof(Counter), cursor_->turn); }

  /// Whether the next message is there.
  RT_HD bool ready(Order order) const {
    return AtomicRef(next().filled).load(order) == cursor_->turn + 1;  // pairs with: the signal in publish()
  }

  /// Waits for the next message, which must belong to this call and have `bytes` bytes.
  template <class Team>
  RT_HD Claim arrival(Team& team, std::size_t bytes) {
    const std::uint64_t turn = cursor_->turn;
    SlotHeader& header = next();
    team.await(peer_, [this](Order order) { return ready(order); });
    if (!team.gave_up() && (header.digest != digest_ || header.bytes != bytes))
      team.disagree(peer_, header.bytes, bytes);
    return {&header, turn, header.data(bytes), 0};
  }

  /// Gives the slot back.
  template <class Team>
  RT_HD void release(Team& team, const Claim& claim) {
    if (team.leads()) cursor_->turn = claim.turn + 1;
    team.signal(peer_, reinterpret_cast<Counter*>(lane_)->value, claim.turn + 1);  // pairs with: claim()
  }

 private:
  std::byte* lane_;
  SlotShape shape_;
  LaneCursor* cursor_;
  std::uint64_t digest_;
  int peer_;
};

/// One lane in memory: the receiver's counter, then the slots.
RT_HD constexpr std::size_t lane_bytes(SlotShape shape) { return sizeof(Counter) + shape.bytes(); }

}  // namespace ringtree
