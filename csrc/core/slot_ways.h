// How a rank writes to slots: through its caches, past them to memory, or going round.
//
// A line that its reader still has costs the writer a trip to that core's cache before it can be written. How
// long that takes depends on where both run: it has been seen to hold writing to 7, and to 2, GB/s. Two ways
// lead round it. Streamed stores take no line and go on at 28, but the reader finds their lines in memory,
// which is slower for it. And a slot may have room for several pieces: a writer that goes round comes back to
// a line when its reader's cache has long lost it, but where both share a cache that costs them more of it.
// So no way is best everywhere, and threads move between cores. Each writer measures all, now and then:
// docs/measuring.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/clock.h"

namespace ringtree {

enum class SlotWay : unsigned { cached, streamed, roaming };

/// From so many bytes on a piece is worth a choice.
inline constexpr std::size_t kChosenBytes = std::size_t{2} << 10;

/// Which way the next piece takes, by the time that pieces took to write, and what streamed ones cost their
/// reader. A thread that loses its core while it writes looks slow, so the quickest of a few counts.
class WayChoice {
 public:
  /// Nanoseconds a byte of some pieces.
  using Few = std::array<float, 4>;

  /// `may_roam`: whether slots have the room for it.
  explicit WayChoice(bool may_roam = true) : others_(may_roam ? 2 : 1) {}

  /// How to write the next piece.
  SlotWay next() const { return is_trying_ ? other() : preferred_; }

  /// Whether took() wants to know of the next piece: of all of a trial, else of one in seven.
  bool is_timed() const { return is_trying_ || pieces_ % kPiecesPerSample == 0; }

  /// After each piece; `ns` means something where it was timed.
  void took(std::size_t bytes, std::uint64_t ns);

 private:
  static constexpr unsigned kPiecesPerSample = 7;                     ///< odd: rounds of calls are not
  static constexpr unsigned kShortestPause = 2, kLongestPause = 256;  // samples
  static constexpr float kUnknown = std::numeric_limits<float>::infinity();

  /// Trials take the other ways in turn.
  SlotWay other() const {
    const unsigned ways = others_ + 1, ahead = 1 + trials_ % others_;
    return static_cast<SlotWay>((static_cast<unsigned>(preferred_) + ahead) % ways);
  }
  bool has_slowed() const;
  void begin_trial();
  void decide();

  SlotWay preferred_ = SlotWay::cached;
  unsigned others_;
  bool is_trying_ = false;
  std::uint32_t pieces_ = 0, samples_ = 0, trials_ = 0, tries_ = 0;
  unsigned since_trial_ = 0, pause_ = kShortestPause;   ///< in samples
  Few recent_{kUnknown, kUnknown, kUnknown, kUnknown};  ///< of the preferred way
  Few tried_{};                                         ///< of the trial
  float known_ = kUnknown;                              ///< of the preferred way, when the last trial ended
};

/// Towards one reader, or all of them. Of small and large pieces, which take different times a byte, and of
/// what is copied and what is combined on its way.
class SlotWays {
 public:
  explicit SlotWays(bool may_roam = true)
      : copies_{WayChoice(may_roam), WayChoice(may_roam)}, combinations_(copies_) {}

  WayChoice& of_copies(std::size_t bytes) { return copies_[is_large(bytes)]; }
  WayChoice& of_combinations(std::size_t bytes) { return combinations_[is_large(bytes)]; }

 private:
  static std::size_t is_large(std::size_t bytes) { return bytes < 8 * kChosenBytes ? 0 : 1; }

  std::array<WayChoice, 2> copies_, combinations_;
};

/// The way of one slot. What writing to it takes goes to the choice's account.
class ChosenWay {
 public:
  /// Cached, whatever it takes.
  ChosenWay() = default;
  explicit ChosenWay(WayChoice& choice)
      : choice_(&choice), way_(choice.next()), is_timed_(choice.is_timed()) {}
  ChosenWay(const ChosenWay&) = delete;
  ChosenWay& operator=(const ChosenWay&) = delete;
  ~ChosenWay() {
    if (choice_ != nullptr && bytes_ != 0) choice_->took(bytes_, ns_);
  }

  bool roams() const { return way_ == SlotWay::roaming; }
  bool streams() const { return way_ == SlotWay::streamed; }

  /// write() of `bytes` bytes.
  template <class Write>
  void account(std::size_t bytes, Write write) {
    const std::uint64_t begin = is_timed_ ? precise_ns() : 0;
    write();
    if (is_timed_) ns_ += precise_ns() - begin;
    bytes_ += bytes;
  }

 private:
  WayChoice* choice_ = nullptr;
  SlotWay way_ = SlotWay::cached;
  bool is_timed_ = false;
  std::size_t bytes_ = 0;
  std::uint64_t ns_ = 0;
};

}  // namespace ringtree
