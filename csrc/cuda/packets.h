// Messages in packets: every word travels with its own flag, so that nothing has to be published after it, no
// fence holds up the next step, and the receiver's first look at the last word ends its wait.
//
//     packets: {data, flag, data, flag}    8 bytes of data; halves arrive whole, so PCIe may carry them
//
//     lines:   {data, data, data, flag}   12 bytes of data; need links that carry 16 bytes at once
//
// Both are one store and one load of 16 bytes (the same instructions: docs/kernels.md).
// Source: NCCL's LL and LL128 protocols; Z. Hu et al., Demystifying NCCL (2025).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/platform.h"
#include "cuda/layout.h"

namespace ringtree {

/// For those who look for packets alone.
struct Nowhere {
  __device__ static constexpr bool has_come() { return false; }
  __device__ static constexpr std::uint64_t digest() { return 0; }
};

/// One message, on the way to an inbox or out of it.
class PacketMessage {
 public:
  /// `turn` numbers the messages of one inbox; `data` is memory of the block, or of whoever has it aligned to
  /// words, with room for whole ones.
  __device__ PacketMessage(const PacketShape& shape, std::uint64_t digest, std::uint64_t turn,
                           std::byte* data, std::size_t bytes)
      : data_(reinterpret_cast<std::uint32_t*>(data)),
        words_((bytes + 3) / 4),
        digest_(digest),
        bytes_(static_cast<std::uint32_t>(bytes)),
        flag_(static_cast<std::uint32_t>(turn % 0xFFFFFFFF) + 1),
        packets_(static_cast<std::uint32_t>(shape.packets_of(bytes))),
        lines_(shape.lines) {}

  __device__ std::uint32_t packets() const { return packets_; }

  /// Packet `i` into the inbox at `to`.
  __device__ void put(std::byte* to, std::uint32_t i) const {
    std::byte* const place = to + i * sizeof(Pack);
    if (lines_) {
      const std::uint32_t line[] = {i == 0 ? low(digest_) : word(3 * i - 3),
                                    i == 0 ? high(digest_) : word(3 * i - 2),
                                    i == 0 ? bytes_ : word(3 * i - 1)};
      store_line(place, line, flag_);
    } else {
      const bool is_digest = i == 0, is_size = i == 1;
      store_packet(place,
                   is_digest ? low(digest_)
                   : is_size ? bytes_
                             : word(2 * i - 4),
                   is_digest ? high(digest_)
                   : is_size ? 0
                             : word(2 * i - 3),
                   flag_);
    }
  }

  /// By a lane of `team` on its own: packet `i` out of the inbox at `from`, once `peer` has put it there.
  /// False if the call has failed. Ends with the team's join(). `elsewhere` looks where the peer may have
  /// sent what it takes for this message.
  template <class Team, class Elsewhere = Nowhere>
  __device__ bool take(Team& team, int peer, const std::byte* from, std::uint32_t i,
                       Elsewhere elsewhere = {}) const {
    const std::byte* const place = from + i * sizeof(Pack);
    std::uint32_t got[3] = {};
    bool is_here = false;
    const auto look = [&] {
      is_here = lines_ ? load_line(place, flag_, got) : load_packet(place, flag_, got[0], got[1]);
      return is_here;
    };
    if (!team.await_lane(peer, [&] { return look() || elsewhere.has_come(); })) return false;
    if (!is_here && !look()) return disagree(team, peer, elsewhere.digest());
    if (lines_) {
      if (i == 0)
        return (got[2] == bytes_ && digest_in(got) == digest_) || disagree(team, peer, digest_in(got));
      for (std::uint32_t j = 0; j < 3; ++j) keep(3 * i - 3 + j, got[j]);
    } else {
      if (i == 0) return digest_in(got) == digest_ || disagree(team, peer, digest_in(got));
      if (i == 1) return got[0] == bytes_ || disagree_by_digest(team, peer, from);
      for (std::uint32_t j = 0; j < 2; ++j) keep(2 * i - 4 + j, got[j]);
    }
    return true;
  }

 private:
  __device__ static std::uint32_t low(std::uint64_t digest) { return static_cast<std::uint32_t>(digest); }
  __device__ static std::uint32_t high(std::uint64_t digest) {
    return static_cast<std::uint32_t>(digest >> 32);
  }
  __device__ static std::uint64_t digest_in(const std::uint32_t (&got)[3]) {
    return got[0] | std::uint64_t{got[1]} << 32;
  }
  /// At once: others would wait long for packets that may never come.
  template <class Team>
  __device__ static bool disagree(Team& team, int peer, std::uint64_t sent) {
    team.disagree_alone(peer, sent);
    return false;
  }
  /// The size is another one; what it is of, the first packet says.
  template <class Team>
  __device__ bool disagree_by_digest(Team& team, int peer, const std::byte* from) const {
    std::uint32_t got[3] = {};
    if (!team.await_lane(peer, [&] { return load_packet(from, flag_, got[0], got[1]); })) return false;
    return disagree(team, peer, digest_in(got));
  }
  __device__ std::uint32_t word(std::uint32_t index) const { return index < words_ ? data_[index] : 0; }
  __device__ void keep(std::uint32_t index, std::uint32_t value) const {
    if (index < words_) data_[index] = value;
  }

  std::uint32_t* data_;
  std::size_t words_;
  std::uint64_t digest_;
  std::uint32_t bytes_;
  /// Never 0, which fresh memory holds. It comes again after four billion turns: what was left behind then,
  /// in a packet that no message since has used, would pass for new.
  std::uint32_t flag_;
  std::uint32_t packets_;
  bool lines_;
};

}  // namespace ringtree
