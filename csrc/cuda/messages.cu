#include "core/call.h"
#include "core/span.h"
#include "cuda/block.h"
#include "cuda/links.h"
#include "cuda/messages.h"
#include "cuda/progress.h"
#include "link/exchange.h"
#include "schedule/chunks.h"

namespace ringtree {
namespace {

using Byte = Element<1>;

/// Slots and packets are links of their own, so two ranks that mean different letters must meet in one of
/// them: each channel's first piece always goes in packets, where there are any.
struct Pieces {
  std::size_t in_packets;      ///< see DeviceMessages
  std::size_t packets, slots;  ///< bytes of a piece
};

/// The pieces of a letter that travel through one channel, one after the other.
template <class MoveInPackets, class MoveInSlots>
__device__ void each_piece(const GpuLetter& letter, int channel, int channels, const Pieces& pieces,
                           MoveInPackets move_in_packets, MoveInSlots move_in_slots) {
  const Range part = Chunks::split(letter.bytes, 1).slice(channel, channels, kGrainBytes).chunk(0);
  Byte* const data = static_cast<Byte*>(letter.data) + part.begin;
  std::size_t done = 0;
  do {  // an empty letter is one empty piece
    const bool over_packets = done < pieces.in_packets;
    const std::size_t left = part.size - done, most = over_packets ? pieces.packets : pieces.slots;
    const Span<Byte> piece(data + done, left < most ? left : most);
    if (over_packets)
      move_in_packets(piece);
    else
      move_in_slots(piece);
    done += piece.size();
  } while (done < part.size);
}

using MessageLinks = PacketLinks<false>;

/// Looks now and then whether the peer has filled a slot, as in a collective, where packets were due.
class SlotWatch {
 public:
  __device__ explicit SlotWatch(const Receiver& slots) : slots_(slots) {}
  __device__ bool has_come() { return ++looks_ % kBetweenLooks == 0 && slots_.ready(acquire); }
  __device__ std::uint64_t digest() const { return slots_.next().digest; }

 private:
  static constexpr int kBetweenLooks = 256;

  Receiver slots_;
  int looks_ = 0;
};

/// Packets of a peer, with an eye on its slots.
struct WatchingReceiver {
  PacketReceiver packets;
  SlotWatch watch;

  template <class Team>
  __device__ Claim arrival(Team& team, std::size_t bytes) const {
    return packets.arrival(team, bytes, watch);
  }
  template <class Team>
  __device__ void release(Team& team, const Claim& claim) const {
    packets.release(team, claim);
  }
};

__device__ void send_letter(Block& team, MessageLinks& links, const GpuLetter& letter, int channel,
                            int channels, const Pieces& pieces) {
  const auto send = [&](auto to) {
    return [&team, to](Span<Byte> piece) { push(team, to, Span<const Byte>(piece)); };
  };
  each_piece(letter, channel, channels, pieces, send(links.to(letter.peer, letter.digest)),
             send(links.slots().to(letter.peer, letter.digest)));
}

__device__ void receive_letter(Block& team, MessageLinks& links, const GpuLetter& letter, int channel,
                               int channels, const Pieces& pieces) {
  const Receiver slots = links.slots().from(letter.peer, letter.digest);
  const WatchingReceiver packets{links.from(letter.peer, letter.digest), SlotWatch(slots)};
  each_piece(
      letter, channel, channels, pieces, [&](Span<Byte> piece) { pull(team, packets, piece); },
      [&](Span<Byte> piece) {
        team.await(letter.peer, [&](Order order) { return slots.ready(order); });
        const std::uint64_t sent = team.gave_up() ? letter.digest : slots.next().digest;
        if (sent != letter.digest) team.refuse(letter.peer, sent);
        pull(team, slots, piece);
      });
}

}  // namespace

__global__ void __launch_bounds__(512, 1) messages_kernel(const __grid_constant__ DeviceMessages messages) {
  DeviceRank& rank = *messages.rank;
  const auto channel = static_cast<int>(blockIdx.x);
  const bool sends = blockIdx.y == 0;
  Block team(rank, messages.sequence, messages.timeout_ns);
  if (channel == 0 && sends) tell_begin(rank, messages.sequence);

  MessageLinks links(rank.memories, messages.layout, rank.channels[channel], 0, messages.own_rank, channel);
  const Pieces pieces{messages.in_packets, links.elements<Byte>(), links.slots().elements<Byte>()};
  for (int i = sends ? 0 : messages.outgoing; i < (sends ? messages.outgoing : messages.letters); ++i) {
    const GpuLetter& letter = messages.of[i];
    const int channels = message_channels(letter.bytes, messages.layout.channels);
    if (channel >= channels) continue;
    if (sends)
      send_letter(team, links, letter, channel, channels, pieces);
    else
      receive_letter(team, links, letter, channel, channels, pieces);
  }
  tell_end(team, rank, messages.sequence, true, gridDim.x * gridDim.y);
}

}  // namespace ringtree
