// A team is who moves the bytes of one channel: `Solo`, one host thread, or `Block`, one CUDA thread block
// (cuda/block.h).
//
// Algorithms and links say what happens; the team says who does it, how it waits and whom it wakes:
//   leads()                 whether this lane speaks for the team
//   sync()                  every lane has come this far
//   await(peer, ready)      returns once ready(order) holds; bounded, and ended by faults
//   apart(n, wait, use)     for each i < n first wait(i, one), where `one` awaits as the team does, then
//                           use(i): in turn on the host; on the device each lane waits on its own
//   gave_up()               whether a wait has ended without that: what it waited for may not be looked at
//   signal(peer, word, v)   publishes v in word, with everything written before it, and wakes `peer`
//   signal_all(word, v)     the same towards every rank
//   disagree(peer, ...)     `peer` sent something that belongs to another call
//   copy, combine           the work on elements
//   way_to(reader, bytes)   how to write a piece to a slot that `reader` will look at, and whether it goes
//                           round in the slot's room; way_to_all(bytes): a slot that all peers will look at
//   roams_to_any(bytes)     whether a slot with a part of `bytes` bytes for each peer is one to go round in
//   put(way, ...)           a copy into that slot
//   combining_way_to(...), put_combined(way, ...)    what way_to() and put() are to copy, to combine
//   stream                  a copy to where this call will not look again
//   get(peer, ...)          such a copy from the memory of a peer
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/clock.h"
#include "core/doorbell.h"
#include "core/other_process.h"
#include "core/platform.h"
#include "core/slot_ways.h"
#include "core/span.h"
#include "core/stream.h"

namespace ringtree {

/// What a host thread does when a short spin was not enough. The communicator implements it, because only
/// it knows deadlines, faults and which peers still live.
class Waiter {
 public:
  virtual ~Waiter() = default;

  /// Announces that this thread is about to rest. Whoever signals after this will ring.
  virtual std::uint32_t prepare() = 0;
  /// Rests until a ring newer than `ticket`, or for a short while; throws once waiting has become pointless.
  virtual void rest(std::uint32_t ticket, int peer) = 0;
  /// Takes back the announcement.
  virtual void resume() noexcept = 0;
  /// Throws Mismatch, naming both calls: `peer` sent a message of `sent` bytes where `expected` were due.
  virtual void disagree(int peer, std::uint64_t sent, std::uint64_t expected) = 0;
  /// Throws, because memory of `peer` could not be read; `error` is the errno.
  virtual void lose(int peer, int error) = 0;
};

class Solo {
 public:
  /// `doorbells` is the array of all ranks' doorbells; `spins` how often to look before resting. `bytes` is
  /// what the whole call writes for this rank's user. `ways`: towards each peer, and, as the rank's own,
  /// towards all of them; null: always through the caches.
  Solo(Waiter& waiter, Doorbell* doorbells, int rank, int world, int spins, std::size_t bytes = 0,
       SlotWays* ways = nullptr)
      : waiter_(&waiter),
        doorbells_(doorbells),
        rank_(rank),
        world_(world),
        spins_(spins),
        bypasses_caches_(bytes >= kStreamBytes),
        ways_(ways) {}

  bool leads() const { return true; }
  void sync() {}

  bool gave_up() const { return false; }  // its waits throw

  /// `ready(order)` looks at one word with that order: acquire while spinning; seq_cst once the thread has
  /// announced that it will sleep, so that look and announcement cannot change places.
  template <class Ready>
  void await(int peer, Ready ready) {
    for (int spin = 0; spin < spins_; ++spin) {
      if (ready(acquire)) return;
      relax();
    }
    await_resting(peer, ready);
  }

  template <class Wait, class Use>
  void apart(int count, Wait wait, Use use) {
    for (int i = 0; i < count; ++i) {
      wait(i, *this);
      use(i);
    }
  }

  void signal(int peer, std::uint64_t& word, std::uint64_t value) {
    AtomicRef(word).store(value, seq_cst);  // pairs with: the acquire load in the peer's await
    doorbells_[peer].ring_if_awaited();
  }

  void signal_all(std::uint64_t& word, std::uint64_t value) {
    AtomicRef(word).store(value, seq_cst);  // pairs with: the acquire load in the peers' await
    for (int peer = 0; peer < world_; ++peer)
      if (peer != rank_) doorbells_[peer].ring_if_awaited();
  }

  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) {
    waiter_->disagree(peer, sent, expected);
  }

  template <class T>
  void copy(T* destination, const T* source, std::size_t count) {
    if (destination != source && count != 0) std::memcpy(destination, source, count * sizeof(T));
  }

  ChosenWay way_to(int reader, std::size_t bytes) const {
    return has_choice(bytes) ? ChosenWay(ways_[reader].of_copies(bytes)) : ChosenWay();
  }
  ChosenWay way_to_all(std::size_t bytes) const { return way_to(rank_, bytes); }
  ChosenWay combining_way_to(int reader, std::size_t bytes) const {
    return has_choice(bytes) ? ChosenWay(ways_[reader].of_combinations(bytes)) : ChosenWay();
  }

  bool roams_to_any(std::size_t bytes) const {
    if (!has_choice(bytes)) return false;
    for (int peer = 0; peer < world_; ++peer)
      if (peer != rank_ && ways_[peer].of_copies(bytes).next() == SlotWay::roaming) return true;
    return false;
  }

  template <class T>
  void put(ChosenWay& way, T* destination, const T* source, std::size_t count) {
    way.account(count * sizeof(T), [&] {
      if (way.streams())
        stream_copy(destination, source, count * sizeof(T));
      else
        copy(destination, source, count);
    });
  }

  template <class T, class Op>
  void put_combined(ChosenWay& way, T* destination, const void* const* sources, int n_sources,
                    std::size_t count, const Op& op) {
    way.account(count * sizeof(T), [&] {
      if (way.streams())
        stream_combined(destination, sources, n_sources, count, op);
      else
        op(destination, sources, n_sources, count);
    });
  }

  /// From now on peers' memory is what `processes` have at the addresses that get() is given; 0, and nobody
  /// at all, stands for memory that is mapped here.
  void attach(const std::int32_t* processes) { processes_ = processes; }

  template <class T>
  void get(int peer, T* destination, const T* source, std::size_t count) {
    if (processes_ == nullptr || processes_[peer] == 0) return stream(destination, source, count);
    const int error = read_memory_of(processes_[peer], destination, source, count * sizeof(T));
    if (error != 0) waiter_->lose(peer, error);
  }

  template <class T>
  void stream(T* destination, const T* source, std::size_t count) {
    if (bypasses_caches_ && destination != source)
      stream_copy(destination, source, count * sizeof(T));
    else
      copy(destination, source, count);
  }

  /// destination = sources[0] op sources[1] op ..., in this order.
  template <class T, class Op>
  void combine(T* destination, const void* const* sources, int n_sources, std::size_t count, const Op& op) {
    op(destination, sources, n_sources, count);
  }

 private:
  bool has_choice(std::size_t bytes) const { return ways_ != nullptr && bytes >= kChosenBytes; }

  /// By way of a tile that stays in the first-level cache.
  template <class T, class Op>
  static void stream_combined(T* destination, const void* const* sources, int n_sources, std::size_t count,
                              const Op& op) {
    constexpr std::size_t kTile = 4096 / sizeof(T);
    constexpr int kMostSources = 3;  // of an inner node of a tree
    alignas(kCacheLine) T tile[kTile];
    const void* parts[kMostSources];
    for (std::size_t begin = 0; begin < count; begin += kTile) {
      const std::size_t size = std::min(kTile, count - begin);
      for (int i = 0; i < n_sources; ++i) parts[i] = static_cast<const T*>(sources[i]) + begin;
      op(tile, parts, n_sources, size);
      stream_lines(destination + begin, tile, size * sizeof(T));
    }
    end_streaming();
  }

  template <class Ready>
  void await_resting(int peer, Ready& ready) {
    for (;;) {
      const std::uint32_t ticket = waiter_->prepare();
      if (ready(seq_cst)) break;
      waiter_->rest(ticket, peer);
    }
    waiter_->resume();
  }

  Waiter* waiter_;
  Doorbell* doorbells_;
  int rank_;
  int world_;
  int spins_;
  bool bypasses_caches_;
  SlotWays* ways_;
  const std::int32_t* processes_ = nullptr;
};

}  // namespace ringtree
