// Recursive doubling all-reduce: in step k ranks whose numbers differ in bit k exchange all they have.
//
// log2(n) steps, each with the whole buffer: short messages between many ranks. The lower rank's operand
// always stands left, so both partners compute the same bits.
// Source: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005).
#pragma once

#include "link/exchange.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "schedule/halving_doubling.h"

namespace ringtree {

struct all_reduce_recursive_doubling {
  static constexpr Cost cost(const Priced& call) {
    const Hypercube cube(call.world);
    const double combinations = cube.steps + (cube.rest() > 0 ? 1 : 0);
    return {cube.exchanges() * rounds_of(call.bytes, call.piece_bytes), call.bytes,
            5 * combinations * call.bytes};
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
    for (int bit = 0; bit < cube.steps; ++bit) {
      const int partner = cube.partner(rank, bit);
      const bool last = bit == cube.steps - 1;
      push(team, links.to(partner), partial);
      pull_combine(team, links.from(partner), out, partial, last ? op.closing() : op,
                   partner < rank ? Arrival::left : Arrival::right);
      partial = out;
    }
    if (cube.is_speaker(rank)) push(team, links.to(rank - 1), partial);
  }
};

}  // namespace ringtree
