// How a rank writes to slots: through its caches, or past them to memory.
//
// A line that its reader still has costs the writer a trip to that core's cache before it can be written. How
// long that takes depends on where both run: it has been seen to hold writing to 7, and to 2, GB/s, where
// streamed stores, which take no line, went on at 28. The reader finds streamed lines in memory, which is
// slower for it, so neither way is better everywhere; and threads move between cores. So each writer measures
// both, now and then: docs/measuring.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/stream.h"

namespace ringtree {

/// From so many bytes on a piece is worth a choice.
inline constexpr std::size_t kChosenBytes = std::size_t{2} << 10;

/// Which way the next piece takes, by the time that pieces took to write, and what streamed ones cost their
/// reader. A thread that loses its core while it writes looks slow, so the quickest of a few counts.
class StoreChoice {
 public:
  /// How to write the next piece.
  Store next() const { return is_trying_ ? other() : preferred_; }

  /// Whether took() wants to know of the next piece: of all of a trial, else of one in eight.
  bool is_timed() const { return is_trying_ || pieces_ % kPiecesPerSample == 0; }

  /// After each piece; `ns` means something where it was timed.
  void took(std::size_t bytes, std::uint64_t ns) {
    const bool counts = is_timed();
    ++pieces_;
    if (!counts) return;
    const auto size = static_cast<float>(bytes);
    const float reading = next() == Store::streamed ? kReaderNs + kReaderNsPerByte * size : 0;
    const float each = (static_cast<float>(ns) + reading) / size;
    if (is_trying_) {
      tried_ = std::min(tried_, each);
      if (++trials_ == kTrials) decide();
    } else {
      recent_[samples_++ % recent_.size()] = each;
      if (++since_trial_ >= pause_ || has_slowed()) begin_trial();
    }
  }

 private:
  static constexpr unsigned kPiecesPerSample = 8, kTrials = 2;
  static constexpr unsigned kShortestPause = 2, kLongestPause = 64;  // samples
  static constexpr float kUnknown = std::numeric_limits<float>::infinity();
  static constexpr float kSlower = 1.5F;
  static constexpr float kGain = 1.1F;  ///< that a change must bring
  /// More, for who reads a streamed piece.
  static constexpr float kReaderNs = 500, kReaderNsPerByte = 0.035F;

  Store other() const { return preferred_ == Store::cached ? Store::streamed : Store::cached; }
  float quickest() const { return *std::min_element(recent_.begin(), recent_.end()); }

  /// Since the last trial, as where a thread has moved to another core.
  bool has_slowed() const { return since_trial_ >= recent_.size() && quickest() > kSlower * known_; }

  void begin_trial() {
    is_trying_ = true;
    trials_ = 0;
    tried_ = kUnknown;
  }

  void decide() {
    const bool switches = tried_ * kGain < quickest();
    is_trying_ = false;
    since_trial_ = 0;
    pause_ = switches ? kShortestPause : std::min(2 * pause_, kLongestPause);
    if (switches) {
      preferred_ = other();
      recent_.fill(tried_);
    }
    known_ = quickest();
  }

  Store preferred_ = Store::cached;
  bool is_trying_ = false;
  std::uint32_t pieces_ = 0, samples_ = 0, trials_ = 0;
  unsigned since_trial_ = 0, pause_ = kShortestPause;  ///< in samples
  // Nanoseconds a byte:
  std::array<float, 4> recent_{kUnknown, kUnknown, kUnknown, kUnknown};  ///< of the preferred way
  float known_ = kUnknown;  ///< the same when the last trial ended
  float tried_ = kUnknown;  ///< of the trial
};

/// Towards one reader, or all of them. Of small and large pieces, which take different times a byte, and of
/// what is copied and what is combined on its way.
class SlotStores {
 public:
  StoreChoice& of_copies(std::size_t bytes) { return copies_[is_large(bytes)]; }
  StoreChoice& of_combinations(std::size_t bytes) { return combinations_[is_large(bytes)]; }

 private:
  static std::size_t is_large(std::size_t bytes) { return bytes < 8 * kChosenBytes ? 0 : 1; }

  std::array<StoreChoice, 2> copies_, combinations_;
};

}  // namespace ringtree
