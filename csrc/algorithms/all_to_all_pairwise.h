// Pairwise all-to-all: in step s every rank sends to the one s further on and receives from the one s
// behind it. Shares may differ: each pair walks its own number of rounds.
//
// Nobody starves: a rank that waits for a credit has sent more pieces in this step than the next one has
// received, so around the ring of waiting ranks the number of pieces would have to fall for ever.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/ring.h"

namespace ringtree {

struct all_to_all_pairwise {
  static constexpr Cost cost(const Priced& call) {
    const double n = call.world;
    return {(n - 1) * rounds_of(call.bytes / n / n, call.piece_bytes), call.bytes / n / n,
            (4 * n - 2) / n / n * call.bytes};
  }

  template <class Team, class Links, class T>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, const Chunks& in_chunks, Span<T> out,
                        const Chunks& out_chunks) {
    const int rank = links.rank(), world = links.world();
    const std::size_t piece = links.template elements<T>();
    team.stream(out.data() + out_chunks.chunk(rank).begin, in.data() + in_chunks.chunk(rank).begin,
                in_chunks.chunk(rank).size);

    for (int step = 1; step < world; ++step) {
      const int to = modulo(rank + step, world), from = modulo(rank - step, world);
      const Range outgoing = in_chunks.chunk(to), incoming = out_chunks.chunk(from);
      const Chunks sent = Chunks::split(outgoing.size, 1), received = Chunks::split(incoming.size, 1);
      for (std::size_t round = 0; round < sent.rounds(piece) || round < received.rounds(piece); ++round) {
        if (round < sent.rounds(piece)) {
          const auto [begin, size] = sent.piece(0, round, piece);
          push(team, links.to(to), in.part(outgoing.begin + begin, size));
        }
        if (round < received.rounds(piece)) {
          const auto [begin, size] = received.piece(0, round, piece);
          pull(team, links.from(from), out.part(incoming.begin + begin, size), Store::streamed);
        }
      }
    }
  }
};

}  // namespace ringtree
