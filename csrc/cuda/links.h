// All that one block can reach during one call: the links of one channel between the ranks of a communicator.
//
// The same steps as on the host (link/), over memory that each rank has on its own GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/layout.h"
#include "cuda/packet_lanes.h"
#include "cuda/packet_window.h"
#include "cuda/state.h"
#include "link/slots.h"
#include "link/window.h"

namespace ringtree {

/// Windows of one channel, in memory of their ranks.
class DevicePlaces {
 public:
  __device__ DevicePlaces(std::byte* const* memories, std::size_t channel_offset, std::size_t window_offset)
      : memories_(memories), channel_offset_(channel_offset), window_offset_(window_offset) {}

  __device__ std::byte* window_of(int rank) const { return channel_of(rank) + window_offset_; }
  __device__ std::uint64_t& consumed_by(int rank) const {
    return reinterpret_cast<Counter*>(channel_of(rank))->value;
  }

 private:
  __device__ std::byte* channel_of(int rank) const { return memories_[rank] + channel_offset_; }

  std::byte* const* memories_;
  std::size_t channel_offset_, window_offset_;
};

class DeviceLinks {
 public:
  /// `memories` are the ranks' link memories as this rank reaches them.
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): sources_ is room, written before it is read
  __device__ DeviceLinks(std::byte* const* memories, const DeviceLayout& layout, ChannelState& state,
                         std::uint64_t digest, int rank, int channel)
      : memories_(memories),
        layout_(&layout),
        state_(&state),
        channel_offset_(layout.channel_offset(channel)),
        digest_(digest),
        rank_(rank) {}

  __device__ int rank() const { return rank_; }
  __device__ int world() const { return layout_->world; }

  /// Lanes lie at their receiver's, so that who waits for a piece looks at its own memory.
  __device__ Sender to(int peer) const { return to(peer, digest_); }
  __device__ Sender to(int peer, std::uint64_t digest) const {
    return {memories_[peer] + channel_offset_ + layout_->lane_offset(rank_), layout_->lane,
            state_->sent[peer], digest, peer};
  }
  __device__ Receiver from(int peer) const { return from(peer, digest_); }
  __device__ Receiver from(int peer, std::uint64_t digest) const {
    return {memories_[rank_] + channel_offset_ + layout_->lane_offset(peer), layout_->lane,
            state_->received[peer], digest, peer};
  }

  __device__ WindowOver<DevicePlaces> window() const {
    return {DevicePlaces(memories_, channel_offset_, layout_->window_offset()),
            layout_->window,
            state_->window,
            digest_,
            rank_,
            layout_->world};
  }

  template <class T>
  __device__ std::size_t elements() const {
    return layout_->lane.slot_bytes / sizeof(T);
  }

  /// Room for the addresses of one operand a rank: each lane has its own.
  __device__ const void** sources() { return sources_; }

 protected:
  std::byte* const* memories_;
  const DeviceLayout* layout_;
  ChannelState* state_;
  std::size_t channel_offset_;
  std::uint64_t digest_;
  int rank_;
  const void* sources_[kMaxDeviceRanks];
};

/// The same for algorithms that use their peers' arrays.
class ArrayLinks : public DeviceLinks {
 public:
  using DeviceLinks::DeviceLinks;  // NOLINT(cppcoreguidelines-pro-type-member-init): meet() writes the rest

  /// The arrays that `rank` has passed to this call, once they have met.
  template <class T>
  __device__ const T* input_of(int rank) const {
    return static_cast<const T*>(inputs_[rank]);
  }
  template <class T>
  __device__ T* output_of(int rank) const {
    return static_cast<T*>(outputs_[rank]);
  }
  __device__ void reach(int rank, const void* input, void* output) {
    inputs_[rank] = input;
    outputs_[rank] = output;
  }

 private:
  const void* inputs_[kMaxDeviceRanks];
  void* outputs_[kMaxDeviceRanks];
};

/// The same for small and middle sizes: all goes in packets.
template <bool kAllSee>
class PacketLinks : public DeviceLinks {
 public:
  __device__ PacketLinks(std::byte* const* memories, const DeviceLayout& layout, ChannelState& state,
                         std::uint64_t digest, int rank, int channel)
      : DeviceLinks(memories, layout, state, digest, rank, channel),
        areas_(block_memory(), layout.packets.piece_bytes) {}

  // NOLINTBEGIN(bugprone-derived-method-shadowing-base-method): those are the differences
  __device__ PacketSender to(int peer) { return to(peer, digest_); }
  __device__ PacketSender to(int peer, std::uint64_t digest) {
    return {memories_[peer] + channel_offset_ + layout_->packet_lane_offset(rank_),
            layout_->packets,
            state_->packets_sent[peer],
            areas_,
            digest,
            peer};
  }
  __device__ PacketReceiver from(int peer) { return from(peer, digest_); }
  __device__ PacketReceiver from(int peer, std::uint64_t digest) {
    return {memories_[rank_] + channel_offset_ + layout_->packet_lane_offset(peer),
            layout_->packets,
            state_->packets_received[peer],
            areas_,
            digest,
            peer};
  }
  __device__ PacketWindow<kAllSee> window() const {
    return {memories_, channel_offset_, *layout_, state_->packet_window, block_memory(), digest_, rank_};
  }
  template <class T>
  __device__ std::size_t elements() const {
    return layout_->packets.piece_bytes / sizeof(T);
  }
  // NOLINTEND(bugprone-derived-method-shadowing-base-method)

  /// What goes in slots all the same.
  __device__ const DeviceLinks& slots() const { return *this; }

 private:
  PacketAreas areas_;
};

}  // namespace ringtree
