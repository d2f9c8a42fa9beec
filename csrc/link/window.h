// Direct steps: each rank has a window that every peer reads. What a rank posts is written once, however
// many read it.
//
//     writer                                              each reader
//     claim:   wait until ALL have consumed the slot      view:  wait until the writer has posted
//     write                                               read, from as many writers as the step wants
//     publish: filled = turn + 1      ------------->      done:  consumed = turn + 1
//
// All ranks count the same turns: in each, any number of them post, any number of them read, and all call
// done() once. So one counter a rank says how far that rank has read in everybody's window.
//
// tests/model/window.pml checks this in every interleaving.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "link/slots.h"

namespace ringtree {

/// How far a rank has come with all windows. Private to it; on the device, written by the leader alone.
struct WindowCursor {
  std::uint64_t turn;
  std::uint64_t consumed;  ///< turns that every peer is known to have consumed
};

/// Windows in one segment: one behind the other, and so are the counters.
class SegmentPlaces {
 public:
  RT_HD SegmentPlaces(std::byte* windows, std::size_t window_bytes, Counter* consumed)
      : windows_(windows), window_bytes_(window_bytes), consumed_(consumed) {}

  RT_HD std::byte* window_of(int rank) const {
    return windows_ + static_cast<std::size_t>(rank) * window_bytes_;
  }
  RT_HD std::uint64_t& consumed_by(int rank) const { return consumed_[rank].value; }

 private:
  std::byte* windows_;
  std::size_t window_bytes_;
  Counter* consumed_;
};

/// `Places` says where the ranks' windows and counters are.
template <class Places>
class WindowOver {
 public:
  RT_HD WindowOver(const Places& places, SlotShape shape, WindowCursor& cursor, std::uint64_t digest,
                   int rank, int world)
      : places_(places), shape_(shape), cursor_(&cursor), digest_(digest), rank_(rank), world_(world) {}

  /// Elements of a piece that a turn can carry.
  template <class T>
  RT_HD std::size_t elements() const {
    return shape_.slot_bytes / sizeof(T);
  }

  /// Elements for each peer when a turn carries a piece for everyone.
  template <class T>
  RT_HD std::size_t elements_each() const {
    return shape_.slot_bytes / sizeof(T) / static_cast<std::size_t>(world_);
  }

  /// Elements of a piece that one rank posts while others read: small enough that pieces overlap.
  template <class T>
  RT_HD std::size_t elements_posted() const {
    return elements_each<T>();
  }

  /// Waits until the own window has a slot that nobody reads any more. `roams`: goes round in its room.
  template <class Team>
  RT_HD Claim claim(Team& team, std::size_t bytes, bool roams = false) {
    const std::uint64_t turn = cursor_->turn;
    const auto await_room = [&](int peer, auto& one) {
      if (peer == rank_) return;
      one.await(peer, [&](Order order) {
        return is_free(turn, cursor_->consumed) ||
               is_free(turn, AtomicRef(places_.consumed_by(peer)).load(order));  // pairs with: done()
      });
    };
    team.apart(world_, await_room, [](int) {});
    if (team.leads() && !is_free(turn, cursor_->consumed)) note_consumed(turn);
    return claim_of(slot(rank_, turn), shape_, turn, bytes, roams);
  }

  /// Shows the slot to all peers.
  template <class Team>
  RT_HD void publish(Team& team, const Claim& claim, std::size_t bytes) {
    if (team.leads()) label(claim, digest_, bytes);
    team.signal_all(claim.header->filled, claim.turn + 1);  // pairs with: the load in view()
  }

  /// Shows it to `reader`, the only one that will look.
  template <class Team>
  RT_HD void publish_to(Team& team, int reader, const Claim& claim, std::size_t bytes) {
    if (team.leads()) label(claim, digest_, bytes);
    team.signal(reader, claim.header->filled, claim.turn + 1);  // pairs with: the load in view()
  }

  /// What `peer` has posted in this turn: `bytes` bytes, readable until done().
  template <class Team>
  RT_HD const std::byte* view(Team& team, int peer, std::size_t bytes) {
    const std::uint64_t turn = cursor_->turn;
    SlotHeader& header = slot(peer, turn);
    team.await(peer, [&](Order order) {
      return AtomicRef(header.filled).load(order) == turn + 1;  // pairs with: publish()
    });
    if (!team.gave_up() && (header.digest != digest_ || header.bytes != bytes))
      team.disagree(peer, header.bytes, bytes);
    return header.data(bytes);
  }

  /// use(peer, data) for every other rank's post once it is there.
  template <class Team, class Use>
  RT_HD void each_view(Team& team, std::size_t bytes, Use use) {
    each_view(team, bytes, [=](int) { return bytes; }, use);
  }

  /// Posts of bytes_of(peer) bytes, `most_bytes` at most.
  template <class Team, class BytesOf, class Use>
  RT_HD void each_view(Team& team, std::size_t /*most_bytes*/, BytesOf bytes_of, Use use) {
    const std::uint64_t turn = cursor_->turn;
    const auto wait = [&](int peer, auto& one) {
      if (peer != rank_) view(one, peer, bytes_of(peer));
    };
    team.apart(world_, wait, [&](int peer) {
      if (peer != rank_) use(peer, static_cast<const std::byte*>(slot(peer, turn).data(bytes_of(peer))));
    });
  }

  // A turn that carries a part for each rank: rank r reads the r-th of `world` parts.

  /// Bytes from one part to the next, where the claim is.
  RT_HD std::size_t part_stride(std::size_t part_bytes) const { return part_bytes; }

  template <class Team>
  RT_HD Claim claim_parts(Team& team, std::size_t part_bytes, bool roams) {
    return claim(team, part_bytes * static_cast<unsigned>(world_), roams);
  }
  template <class Team>
  RT_HD void publish_parts(Team& team, const Claim& claim, std::size_t part_bytes) {
    publish(team, claim, part_bytes * static_cast<unsigned>(world_));
  }
  template <class Team>
  RT_HD const std::byte* view_part(Team& team, int peer, std::size_t part_bytes) {
    return view(team, peer, part_bytes * static_cast<unsigned>(world_)) + own_part(part_bytes);
  }
  template <class Team, class Use>
  RT_HD void each_part(Team& team, std::size_t part_bytes, Use use) {
    each_view(team, part_bytes * static_cast<unsigned>(world_),
              [&](int peer, const std::byte* shown) { use(peer, shown + own_part(part_bytes)); });
  }

  /// Ends the turn: this rank reads nothing more of it.
  template <class Team>
  RT_HD void done(Team& team) {
    const std::uint64_t turn = cursor_->turn;
    team.sync();  // every lane has read the turn and what it needed
    if (team.leads()) cursor_->turn = turn + 1;
    team.signal_all(places_.consumed_by(rank_), turn + 1);  // pairs with: claim()
  }

 private:
  RT_HD SlotHeader& slot(int rank, std::uint64_t turn) const {
    return shape_.at(places_.window_of(rank), turn);
  }

  RT_HD std::size_t own_part(std::size_t part_bytes) const {
    return part_bytes * static_cast<unsigned>(rank_);
  }

  /// Whether the slot of `turn` is free once `consumed` turns are over. A peer that reads nothing may be
  /// ahead of this rank, so the difference could be negative.
  RT_HD bool is_free(std::uint64_t turn, std::uint64_t consumed) const {
    return turn < consumed + static_cast<unsigned>(shape_.slots);
  }

  /// After the waits of claim(): how far the slowest peer has come, so that the next turns need no look.
  RT_HD void note_consumed(std::uint64_t turn) {
    std::uint64_t slowest = turn;
    for (int peer = 0; peer < world_; ++peer) {
      if (peer == rank_) continue;
      const std::uint64_t value = AtomicRef(places_.consumed_by(peer)).load(acquire);
      if (value < slowest) slowest = value;
    }
    cursor_->consumed = slowest;
  }

  Places places_;
  SlotShape shape_;
  WindowCursor* cursor_;
  std::uint64_t digest_;
  int rank_;
  int world_;
};

using Window = WindowOver<SegmentPlaces>;

}  // namespace ringtree
