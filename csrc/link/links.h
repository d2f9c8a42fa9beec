// All that one rank can reach during one call: a lane to and from every peer, and the windows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "link/layout.h"
#include "link/slots.h"
#include "link/window.h"

namespace ringtree {

/// What a rank remembers between calls. Private to the rank; the arrays have one entry a rank.
struct LinkState {
  LaneCursor* sent;
  LaneCursor* received;
  WindowCursor* window;
  const void** sources;  ///< room for the operands of one combine
  std::byte* scratch;    ///< one lane slot of working memory
  const void** inputs;   ///< the ranks' buffers, as this rank reaches them, during a call that does
  void** outputs;
};

/// What an algorithm does with its peers' buffers themselves.
enum class Access {
  none,
  copy,  ///< copies from their inputs: the kernel of the host can do that, too
  use,   ///< computes with their inputs, or writes to their outputs: they have to be mapped
};

template <class Algorithm>
constexpr Access access_of() {
  if constexpr (requires { Algorithm::kAccess; })
    return Algorithm::kAccess;
  else
    return Access::none;
}

/// Whether an algorithm makes sense between the ranks of a host alone.
template <class Algorithm>
inline constexpr bool kIsHostOnly = requires { Algorithm::kHostOnly; };

/// Whether every rank looks at every other one in each turn of the window, so that nobody needs a credit.
template <class Algorithm>
inline constexpr bool kSeesEveryone = requires { Algorithm::kAllSeeAll; };

class Links {
 public:
  RT_HD Links(std::byte* memory, const LinkLayout& layout, const LinkState& state, std::uint64_t digest,
              int rank)
      : memory_(memory), layout_(layout), state_(state), digest_(digest), rank_(rank) {}

  RT_HD int rank() const { return rank_; }
  RT_HD int world() const { return layout_.world; }

  RT_HD Sender to(int peer) const {
    return {memory_ + layout_.lane_offset(rank_, peer), layout_.lane, state_.sent[peer], digest_, peer};
  }

  RT_HD Receiver from(int peer) const {
    return {memory_ + layout_.lane_offset(peer, rank_), layout_.lane, state_.received[peer], digest_, peer};
  }

  RT_HD Window window() const {
    return {SegmentPlaces(memory_ + layout_.windows_offset(), layout_.window.bytes(),
                          reinterpret_cast<Counter*>(memory_ + layout_.consumed_offset())),
            layout_.window,
            *state_.window,
            digest_,
            rank_,
            layout_.world};
  }

  /// Elements of a piece that fits a lane's slot.
  template <class T>
  RT_HD std::size_t elements() const {
    return layout_.lane.slot_bytes / sizeof(T);
  }

  /// Working memory of elements<T>() elements; what it holds does not outlive the call.
  template <class T>
  RT_HD T* scratch() const {
    return reinterpret_cast<T*>(state_.scratch);
  }

  /// Room for the addresses of one operand a rank.
  RT_HD const void** sources() const { return state_.sources; }

  /// The buffers that `rank` has passed to this call, for an algorithm that has declared its access.
  template <class T>
  RT_HD const T* input_of(int rank) const {
    return static_cast<const T*>(state_.inputs[rank]);
  }
  template <class T>
  RT_HD T* output_of(int rank) const {
    return static_cast<T*>(state_.outputs[rank]);
  }

 private:
  std::byte* memory_;
  LinkLayout layout_;
  LinkState state_;
  std::uint64_t digest_;
  int rank_;
};

}  // namespace ringtree
