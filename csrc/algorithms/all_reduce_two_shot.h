// Two-shot all-reduce: each rank reduces its own chunk out of everybody's window and shows the result.
//
//     shot 1   rank r shows all other chunks, reads chunk r from every peer, reduces it
//     shot 2   rank r shows the reduced chunk r, reads the others
//
// Least bytes, and two steps a round whatever the world size: the bandwidth algorithm on one host.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_reduce_two_shot {
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2 * rounds_of(call.bytes / n, call.piece_bytes), 2 * call.bytes / n,
            (5 * n - 1) / n * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const Chunks chunks = Chunks::split(in.size(), world, kCacheLine / sizeof(T));
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t stride = chunks.widest(round, piece), turn_bytes = stride * world * sizeof(T);
      const Claim slot = window.claim(team, turn_bytes);
      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = chunks.piece(peer, round, piece);
        if (peer != rank) team.copy(reinterpret_cast<T*>(slot.data) + peer * stride, in.data() + begin, size);
      }
      window.publish(team, slot, turn_bytes);

      const auto [begin, size] = chunks.piece(rank, round, piece);
      for (int peer = 0; peer < world; ++peer)
        links.sources()[peer] = peer == rank
                                    ? static_cast<const void*>(in.data() + begin)
                                    : window.view(team, peer, turn_bytes) + rank * stride * sizeof(T);
      const Span<T> mine = out.part(begin, size);
      team.combine(mine.data(), links.sources(), world, size, op.closing());
      window.done(team);

      post(team, window, Span<const T>(mine));
      for (int peer = 0; peer < world; ++peer) {
        const auto [peer_begin, peer_size] = chunks.piece(peer, round, piece);
        if (peer != rank) fetch(team, window, peer, out.part(peer_begin, peer_size));
      }
      window.done(team);
    }
  }
};

}  // namespace ringtree
