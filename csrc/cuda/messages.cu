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

/// The pieces of a letter that travel through one channel, one after the other.
template <class Move>
__device__ void each_piece(const GpuLetter& letter, int channel, int channels, std::size_t piece_bytes,
                           Move move) {
  const Range part = Chunks::split(letter.bytes, 1).slice(channel, channels, kGrainBytes).chunk(0);
  Byte* const data = static_cast<Byte*>(letter.data) + part.begin;
  std::size_t done = 0;
  do {  // an empty letter is one empty piece
    const std::size_t left = part.size - done, size = left < piece_bytes ? left : piece_bytes;
    move(Span<Byte>(data + done, size));
    done += size;
  } while (done < part.size);
}

__device__ void send_letter(Block& team, Sender to, const GpuLetter& letter, int channel, int channels,
                            std::size_t piece_bytes) {
  each_piece(letter, channel, channels, piece_bytes,
             [&](Span<Byte> piece) { push(team, to, Span<const Byte>(piece.data(), piece.size())); });
}

__device__ void receive_letter(Block& team, Receiver from, const GpuLetter& letter, int channel, int channels,
                               std::size_t piece_bytes) {
  each_piece(letter, channel, channels, piece_bytes, [&](Span<Byte> piece) {
    team.await(letter.peer, [&](Order order) { return from.ready(order); });
    const std::uint64_t sent = team.gave_up() ? letter.digest : from.next().digest;
    if (sent != letter.digest) team.refuse(letter.peer, sent);
    pull(team, from, piece);
  });
}

}  // namespace

__global__ void __launch_bounds__(512, 1) messages_kernel(const __grid_constant__ DeviceMessages messages) {
  DeviceRank& rank = *messages.rank;
  const auto channel = static_cast<int>(blockIdx.x);
  const bool sends = blockIdx.y == 0;
  Block team(rank, messages.sequence, messages.timeout_ns);
  if (channel == 0 && sends) tell_begin(rank, messages.sequence);

  const DeviceLinks links(rank.memories, messages.layout, rank.channels[channel], 0, messages.own_rank,
                          channel);
  const auto piece_bytes = links.elements<Byte>();
  for (int i = sends ? 0 : messages.outgoing; i < (sends ? messages.outgoing : messages.letters); ++i) {
    const GpuLetter& letter = messages.of[i];
    const int channels = message_channels(letter.bytes, messages.layout.channels);
    if (channel >= channels) continue;
    if (sends)
      send_letter(team, links.to(letter.peer, letter.digest), letter, channel, channels, piece_bytes);
    else
      receive_letter(team, links.from(letter.peer, letter.digest), letter, channel, channels, piece_bytes);
  }
  tell_end(team, rank, messages.sequence, true, gridDim.x * gridDim.y);
}

}  // namespace ringtree
