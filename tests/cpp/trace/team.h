// The team that traces: it runs the templates of csrc/algorithms/ over the links of csrc/link/, on memory of
// which it knows whose it is, and counts steps and bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/platform.h"
#include "core/span.h"
#include "link/layout.h"
#include "link/links.h"
#include "trace/fibers.h"
#include "trace/symbol.h"

namespace ringtree::trace {

/// What one run of an algorithm took.
struct Tally {
  std::uint64_t steps = 0;           ///< hand-overs that follow one another, up to the last rank's end
  std::uint64_t bytes_per_link = 0;  ///< the most from one rank to one other
  std::uint64_t moved_bytes = 0;     ///< read plus written by the busiest rank
};

/// What all teams of a run share: the clock of each word, and whose memory is whose.
class Ledger {
 public:
  Ledger(const std::byte* links, const LinkLayout& layout)
      : links_(links), layout_(layout), ranks_(static_cast<std::size_t>(layout.world)) {}

  /// The arrays of `rank`, to which others may have access.
  void own(int rank, const void* memory, std::size_t bytes) {
    if (bytes != 0) arrays_.push_back({static_cast<const std::byte*>(memory), bytes, rank});
  }

  /// After the last own().
  void sort() {
    std::sort(arrays_.begin(), arrays_.end(),
              [](const Array& a, const Array& b) { return a.begin < b.begin; });
  }

  struct Stamp {
    int rank;
    std::uint64_t step;
  };

  /// `rank` publishes what it has done so far. A message takes a step, and each lane and window carries one
  /// at a time; a credit takes none.
  void publish(int rank, const void* word) {
    std::uint64_t step = at(rank).step;
    if (!is_credit(word)) {
      std::uint64_t& last = carried_[link_of(word)];
      step = last = std::max(step, last) + 1;
    }
    stamps_[word] = {rank, step};
  }

  /// `rank` has seen what was published in `word`, so what it does next comes after that.
  void see(int rank, const void* word) {
    const auto found = stamps_.find(word);
    if (found == stamps_.end() || found->second.rank == rank) return;
    at(rank).step = std::max(at(rank).step, found->second.step);
  }

  void move(int rank, const void* source, const void* destination, std::size_t bytes) {
    read(rank, source, bytes);
    write(rank, destination, bytes);
  }

  void read(int rank, const void* source, std::size_t bytes) {
    at(rank).moved += bytes;
    const int owner = window_or_array_of(source);
    if (owner >= 0 && owner != rank) add(rank, owner, bytes);
  }

  void write(int rank, const void* destination, std::size_t bytes) {
    at(rank).moved += bytes;
    const auto* place = static_cast<const std::byte*>(destination);
    const std::size_t offset = static_cast<std::size_t>(place - links_);
    if (place >= links_ && offset >= layout_.lanes_offset() && offset < layout_.bytes()) {
      const std::size_t pair = (offset - layout_.lanes_offset()) / lane_bytes(layout_.lane);
      const auto peers = static_cast<std::size_t>(layout_.world) - 1;
      const int slot = static_cast<int>(pair % peers);
      add(rank, slot < rank ? slot : slot + 1, bytes);
    } else if (const int owner = array_of(place); owner >= 0 && owner != rank) {
      add(rank, owner, bytes);
    }
  }

  Tally tally() const {
    Tally result;
    for (const PerRank& rank : ranks_) {
      result.steps = std::max(result.steps, rank.step);
      result.moved_bytes = std::max(result.moved_bytes, rank.moved);
      for (const auto& [peer, bytes] : rank.links)
        result.bytes_per_link = std::max(result.bytes_per_link, bytes);
    }
    return result;
  }

 private:
  struct PerRank {
    std::uint64_t step = 0, moved = 0;
    std::unordered_map<int, std::uint64_t> links;  ///< bytes by peer, to it or read from it
  };
  struct Array {
    const std::byte* begin;
    std::size_t bytes;
    int rank;
  };

  PerRank& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  void add(int rank, int peer, std::uint64_t bytes) { at(rank).links[peer] += bytes; }

  bool is_credit(const void* word) const {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(word) - links_);
    if (offset < layout_.windows_offset()) return true;
    return offset >= layout_.lanes_offset() &&
           (offset - layout_.lanes_offset()) % lane_bytes(layout_.lane) < sizeof(Counter);
  }

  /// A number for the lane or window that holds `word`.
  std::size_t link_of(const void* word) const {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(word) - links_);
    return offset < layout_.lanes_offset() ? (offset - layout_.windows_offset()) / layout_.window.bytes()
                                           : static_cast<std::size_t>(layout_.world) +
                                                 (offset - layout_.lanes_offset()) / lane_bytes(layout_.lane);
  }

  int window_or_array_of(const void* memory) const {
    const auto* place = static_cast<const std::byte*>(memory);
    const auto offset = static_cast<std::size_t>(place - links_);
    if (place >= links_ && offset < layout_.bytes())
      return offset < layout_.lanes_offset()
                 ? static_cast<int>((offset - layout_.windows_offset()) / layout_.window.bytes())
                 : -1;  // what comes through a lane was counted when it was written
    return array_of(place);
  }

  int array_of(const std::byte* place) const {
    const auto after = std::upper_bound(arrays_.begin(), arrays_.end(), place,
                                        [](const std::byte* p, const Array& a) { return p < a.begin; });
    if (after == arrays_.begin()) return -1;
    const Array& array = *std::prev(after);
    return place < array.begin + array.bytes ? array.rank : -1;
  }

  const std::byte* links_;
  LinkLayout layout_;
  std::vector<PerRank> ranks_;
  std::vector<Array> arrays_;  ///< ascending
  std::unordered_map<const void*, Stamp> stamps_;
  std::unordered_map<std::size_t, std::uint64_t>
      carried_;  ///< by lane or window, the step of its last message
};

/// See core/team.h for what each function means.
class TraceTeam {
 public:
  TraceTeam(Fibers& fibers, Ledger& ledger, int rank) : fibers_(&fibers), ledger_(&ledger), rank_(rank) {}

  bool leads() const { return true; }
  void sync() {}
  bool gave_up() const { return false; }

  template <class Ready>
  void await(int /*peer*/, Ready ready) {
    last_loaded_word = nullptr;
    const void* seen = nullptr;
    fibers_->await([&] {
      const bool is_ready = ready(acquire);
      seen = last_loaded_word;
      return is_ready;
    });
    if (seen != nullptr) ledger_->see(rank_, seen);
  }

  template <class Wait, class Use>
  void apart(int count, Wait wait, Use use) {
    for (int i = 0; i < count; ++i) {
      wait(i, *this);
      use(i);
    }
  }

  void signal(int /*peer*/, std::uint64_t& word, std::uint64_t value) {
    AtomicRef(word).store(value, release);
    ledger_->publish(rank_, &word);
    fibers_->pause();
  }
  void signal_all(std::uint64_t& word, std::uint64_t value) { signal(rank_, word, value); }

  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) {
    disagreements.push_back("rank " + std::to_string(rank_) + " expected " + std::to_string(expected) +
                            " bytes from rank " + std::to_string(peer) + ", which sent " +
                            std::to_string(sent));
  }

  template <class T>
  void copy(T* destination, const T* source, std::size_t count) {
    if (destination == source || count == 0) return;
    std::memmove(destination, source, count * sizeof(T));
    ledger_->move(rank_, source, destination, count * sizeof(T));
  }
  /// A slot has one way here.
  struct OnlyWay {
    static constexpr bool roams() { return false; }
  };
  static OnlyWay way_to(int /*reader*/, std::size_t /*bytes*/) { return {}; }
  static OnlyWay way_to_all(std::size_t /*bytes*/) { return {}; }
  static OnlyWay combining_way_to(int /*reader*/, std::size_t /*bytes*/) { return {}; }
  static constexpr bool roams_to_any(std::size_t /*bytes*/) { return false; }
  template <class T>
  void put(OnlyWay /*way*/, T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }
  template <class T>
  void put_combined(OnlyWay /*way*/, T* destination, const void* const* sources, int n_sources,
                    std::size_t count, const Combine& op) {
    combine(destination, sources, n_sources, count, op);
  }
  template <class T>
  void stream(T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }
  template <class T>
  void get(int /*peer*/, T* destination, const T* source, std::size_t count) {
    copy(destination, source, count);
  }

  template <class T>
  void combine(T* destination, const void* const* sources, int n_sources, std::size_t count,
               const Combine& op) {
    op(destination, sources, n_sources, count);
    for (int i = 0; i < n_sources; ++i) ledger_->read(rank_, sources[i], count * sizeof(T));
    ledger_->write(rank_, destination, count * sizeof(T));
  }

  std::vector<std::string> disagreements;

 private:
  Fibers* fibers_;
  Ledger* ledger_;
  int rank_;
};

}  // namespace ringtree::trace
