#include "core/slot_ways.h"

#include <algorithm>
#include <numeric>

namespace ringtree {
namespace {

/// Of a trial. The last ones count: what the other way has left behind is gone by then.
constexpr unsigned kTries = 8;
constexpr float kSlower = 1.5F;  // than what was known: time for a trial
constexpr float kGain = 1.1F;    // that a change must bring

/// More, for who reads a streamed piece.
constexpr float kReaderNs = 500, kReaderNsPerByte = 0.035F;

/// Of a few pieces, the mean of the quicker half.
float typical(WayChoice::Few each) {
  std::sort(each.begin(), each.end());
  const std::size_t half = each.size() / 2;
  return std::accumulate(each.begin(), each.begin() + half, 0.0F) / static_cast<float>(half);
}

}  // namespace

void WayChoice::took(std::size_t bytes, std::uint64_t ns) {
  const bool counts = is_timed();
  ++pieces_;
  if (!counts) return;
  const auto size = static_cast<float>(bytes);
  const float reading = next() == SlotWay::streamed ? kReaderNs + kReaderNsPerByte * size : 0;
  const float each = (static_cast<float>(ns) + reading) / size;
  if (is_trying_) {
    tried_[tries_ % tried_.size()] = each;
    if (++tries_ == kTries) decide();
  } else {
    recent_[samples_++ % recent_.size()] = each;
    if (++since_trial_ >= pause_ || has_slowed()) begin_trial();
  }
}

/// Since the last trial, as where a thread has moved to another core.
bool WayChoice::has_slowed() const {
  return since_trial_ >= recent_.size() && typical(recent_) > kSlower * known_;
}

void WayChoice::begin_trial() {
  is_trying_ = true;
  tries_ = 0;
}

void WayChoice::decide() {
  const bool switches = typical(tried_) * kGain < typical(recent_);
  pause_ = switches ? std::max(pause_ / 2, kShortestPause) : std::min(2 * pause_, kLongestPause);
  if (switches) {
    preferred_ = other();
    recent_ = tried_;
  }
  known_ = typical(recent_);
  is_trying_ = false;
  since_trial_ = 0;
  ++trials_;
}

}  // namespace ringtree
