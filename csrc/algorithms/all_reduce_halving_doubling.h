// Halving-doubling all-reduce: halve the data with the partner over each bit, from the highest down, until
// every corner of the hypercube has reduced its own part; then double back.
//
// 2 log2(n) steps with the ring's bytes: middle sizes between many ranks.
// Source: R. Rabenseifner, Optimization of collective reduction operations, ICCS (2004).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/halving_doubling.h"

namespace ringtree {

struct all_reduce_halving_doubling {
  static constexpr Cost cost(const Priced& call) {
    const Hypercube cube(call.world);
    const double n = cube.cube, folds = cube.rest() > 0 ? 2 : 0;
    return {(2 * cube.steps + folds) * rounds_of(call.bytes, call.piece_bytes), call.bytes,
            (9 * (n - 1) / n + 2.5 * folds) * call.bytes};
  }

  template <class Team, class Links, class T, class Op>
  RT_HD static void run(Team& team, Links& links, Span<const T> in, Span<T> out, const Op& op) {
    const Hypercube cube(links.world());
    const Chunks whole = Chunks::split(in.size(), 1);
    const std::size_t piece = links.template elements<T>();

    for (std::size_t round = 0; round < whole.rounds(piece); ++round) {
      const auto [begin, size] = whole.piece(0, round, piece);
      run_piece(team, links, cube, in.part(begin, size), out.part(begin, size), op);
    }
  }

 private:
  template <class Team, class Links, class T, class Op>
  RT_HD static void run_piece(Team& team, Links& links, const Hypercube& cube, Span<const T> in, Span<T> out,
                              const Op& op) {
    const int rank = links.rank();
    if (cube.is_folded(rank)) {
      push(team, links.to(rank + 1), in);
      pull(team, links.from(rank + 1), out);
      return;
    }
    Span<const T> partial = in;
    if (cube.is_speaker(rank)) {
      pull_combine(team, links.from(rank - 1), out, partial, op);
      partial = out;
    }

    const Chunks shares = Chunks::split(in.size(), cube.cube, kCacheLine / sizeof(T));
    const int corner = cube.corner_of(rank);
    const auto part = [&](auto buffer, int of_corner, int bit) {
      const CornerRange corners = corners_sharing(of_corner, bit);
      const Range first = shares.chunk(corners.begin), last = shares.chunk(corners.end - 1);
      return buffer.part(first.begin, last.begin + last.size - first.begin);
    };
    for (int bit = cube.steps - 1; bit >= 0; --bit) {
      const int partner = cube.partner(rank, bit), across = corner ^ (1 << bit);
      push(team, links.to(partner), part(partial, across, bit));
      pull_combine(team, links.from(partner), part(out, corner, bit), part(partial, corner, bit),
                   bit == 0 ? op.closing() : op, partner < rank ? Arrival::left : Arrival::right);
      partial = out;
    }
    for (int bit = 0; bit < cube.steps; ++bit) {
      const int partner = cube.partner(rank, bit), across = corner ^ (1 << bit);
      push(team, links.to(partner), part(partial, corner, bit));
      pull(team, links.from(partner), part(out, across, bit));
    }

    if (cube.is_speaker(rank)) push(team, links.to(rank - 1), partial);
  }
};

}  // namespace ringtree
