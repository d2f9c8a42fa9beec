// One-shot all-to-all: everybody shows a piece for everyone, everybody reads its own.
//
// All ranks walk the same rounds, so the shares must be equal.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct all_to_all_one_shot {
  static constexpr bool kEvenOnly = true;
  static constexpr bool kAllSeeAll = true;  // in each turn of the window

  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {rounds_of(call.bytes / n / n, call.piece_bytes), call.bytes / n / n,
            (4 * n - 2) / n / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, const Chunks& in_chunks, Span<T> out,
                        const Chunks& out_chunks) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < in_chunks.rounds(piece); ++round) {
      const std::size_t stride = in_chunks.widest(round, piece), turn_bytes = stride * world * sizeof(T);
      const Claim slot = window.claim(team, turn_bytes);
      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = in_chunks.piece(peer, round, piece);
        if (peer != rank) team.copy(reinterpret_cast<T*>(slot.data) + peer * stride, in.data() + begin, size);
      }
      window.publish(team, slot, turn_bytes);

      for (int peer = 0; peer < world; ++peer) {
        const auto [begin, size] = out_chunks.piece(peer, round, piece);
        const T* shown =
            peer == rank ? in.data() + in_chunks.piece(rank, round, piece).begin
                         : reinterpret_cast<const T*>(window.view(team, peer, turn_bytes)) + rank * stride;
        team.stream(out.data() + begin, shown, size);
      }
      window.done(team);
    }
  }
};

}  // namespace ringtree
