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
    const int rank = links.rank();
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < in_chunks.rounds(piece); ++round) {
      const std::size_t width = in_chunks.widest(round, piece);
      const auto sent = [&](int chunk) {
        const auto [begin, size] = in_chunks.piece(chunk, round, piece);
        return in.part(begin, size);
      };
      const auto receive = [&](int chunk, const std::byte* from) {
        const auto [begin, size] = out_chunks.piece(chunk, round, piece);
        store(team, out.data() + begin, from, size, Store::streamed);
      };
      post_parts<T>(team, links, window, width, sent);
      receive(rank, reinterpret_cast<const std::byte*>(sent(rank).data()));
      window.each_part(team, width * sizeof(T), receive);
      window.done(team);
    }
  }
};

}  // namespace ringtree
