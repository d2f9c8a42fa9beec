// Two-shot broadcast: the root's chunks are scattered, each rank shows its own chunk, everybody reads all:
// the root's links carry the data once instead of n - 1 times.
// Source: M. Barnett et al., Interprocessor collective communication library, SHPCC (1994): scatter, then
// collect.
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

struct broadcast_two_shot {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {2 * rounds_of(call.bytes / n, call.piece_bytes), 2 * call.bytes / n, (2 + 2 / n) * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<T> data, int root) {
    auto window = links.window();
    const int rank = links.rank(), world = links.world();
    const Chunks chunks = Chunks::split(data.size(), world, kCacheLine / sizeof(T));
    const std::size_t piece = window.template elements_each<T>();

    for (std::size_t round = 0; round < chunks.rounds(piece); ++round) {
      const std::size_t width = chunks.widest(round, piece);
      const auto part = [&](int chunk) {
        const auto [begin, size] = chunks.piece(chunk, round, piece);
        return data.part(begin, size);
      };
      const Span<T> mine = part(rank);

      if (rank == root) {
        post_parts<T>(team, links, window, width, part);
      } else {
        const std::byte* shown = window.view_part(team, root, width * sizeof(T));
        store(team, mine.data(), shown, mine.size(), Store::cached);
      }
      window.done(team);

      post(team, window, Span<const T>(mine));
      if (rank != root) fetch_all<T>(team, window, width, part, Store::streamed);
      window.done(team);
    }
  }
};

}  // namespace ringtree
