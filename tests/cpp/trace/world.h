// One call of one algorithm by all ranks of a world, traced.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "core/call.h"
#include "link/exchange.h"
#include "link/layout.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"
#include "trace/fibers.h"
#include "trace/symbol.h"
#include "trace/team.h"

namespace ringtree::trace {

using Symbols = std::vector<Symbol>;

struct Call {
  Collective collective;
  int world;
  std::size_t share;  ///< elements of a chunk: of a rank's part, or of its part for each other one
  std::size_t piece;  ///< elements that fit a lane's slot, and each rank's share of a window's slot
  int root = 0;
  bool in_place = false;
  Schedule schedule = Schedule::far_ahead;

  std::size_t ranks() const { return static_cast<std::size_t>(world); }
  bool is_root(int rank) const { return rank == root; }

  /// Elements of the arrays that a rank passes.
  std::size_t input_size(int rank) const {
    switch (collective) {
      case Collective::all_gather:
      case Collective::gather: return share;
      case Collective::scatter: return is_root(rank) ? ranks() * share : 0;
      case Collective::barrier: return 0;
      default: return ranks() * share;
    }
  }
  std::size_t output_size(int rank) const {
    switch (collective) {
      case Collective::reduce: return is_root(rank) ? ranks() * share : 0;
      case Collective::gather: return is_root(rank) ? ranks() * share : 0;
      case Collective::reduce_scatter:
      case Collective::scatter: return share;
      case Collective::broadcast:
      case Collective::barrier: return 0;  // broadcast has one array
      default: return ranks() * share;
    }
  }

  Priced priced() const {
    const double part = static_cast<double>(share * sizeof(Symbol)), n = world;
    const double bytes = collective == Collective::barrier      ? 0
                         : collective == Collective::all_to_all ? n * n * part
                                                                : n * part;
    return {world, bytes, static_cast<double>(piece * sizeof(Symbol))};
  }

  std::string text() const {
    return std::to_string(world) + " ranks, root " + std::to_string(root) + ", " + std::to_string(share) +
           " elements a share" + (in_place ? ", in place" : "") + ", schedule " +
           std::to_string(static_cast<int>(schedule));
  }
};

/// Memory that costs nothing where nobody writes: the lanes of 1000 ranks are a million.
class SparseMemory {
 public:
  explicit SparseMemory(std::size_t bytes) : bytes_(bytes) {
    void* data =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(data);
  }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  ~SparseMemory() { munmap(data_, bytes_); }
  std::byte* data() const { return data_; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

/// What the ranks have in the end.
struct Outcome {
  std::vector<Symbols> results;       ///< by rank; empty where a rank gets nothing
  std::vector<Symbols> inputs;        ///< by rank, as they are afterwards
  std::vector<int> waiting_for_ever;  ///< ranks
  std::vector<std::string> disagreements;
  Tally tally;
};

template <class Algorithm, class Links, class Team>
void run_algorithm(const Call& call, Team& team, Links& links, Span<const Symbol> in, Span<Symbol> out) {
  const Chunks shares = Chunks::equal(call.share, call.world);
  if constexpr (requires { Algorithm::run(team, links, in, out, Combine{}); })
    Algorithm::run(team, links, in, out, Combine{});
  else if constexpr (requires { Algorithm::run(team, links, in, out, 0, Combine{}); })
    Algorithm::run(team, links, in, out, call.root, Combine{});
  else if constexpr (requires { Algorithm::run(team, links, in, out, shares, Combine{}); })
    Algorithm::run(team, links, in, out, shares, Combine{});
  else if constexpr (requires { Algorithm::run(team, links, in, out, shares, 0); })
    Algorithm::run(team, links, in, out, shares, call.root);
  else if constexpr (requires { Algorithm::run(team, links, in, out, shares); })
    Algorithm::run(team, links, in, out, shares);
  else if constexpr (requires { Algorithm::run(team, links, in, shares, out, shares); })
    Algorithm::run(team, links, in, shares, out, shares);
  else if constexpr (requires { Algorithm::run(team, links, out, 0); })
    Algorithm::run(team, links, out, call.root);
  else
    Algorithm::run(team, links);
}

template <class Algorithm>
Outcome run(const Call& call) {
  const std::size_t lane = call.piece * sizeof(Symbol);
  const LinkLayout layout{call.world,
                          {LinkLayout::kSlots, lane, 1},
                          {LinkLayout::kSlots, kCacheLine, 1},
                          {LinkLayout::kSlots, lane * call.ranks(), 1}};
  const SparseMemory memory(layout.bytes());
  Ledger ledger(memory.data(), layout);

  struct Rank {
    Symbols in, out, scratch;
    std::vector<LaneCursor> sent, received;
    WindowCursor window{};
    std::vector<const void*> sources;
    std::vector<std::string> disagreements;
  };
  std::vector<Rank> ranks(call.ranks());
  std::vector<const void*> inputs(call.ranks());
  std::vector<void*> outputs(call.ranks());
  for (int r = 0; r < call.world; ++r) {
    Rank& rank = ranks[static_cast<std::size_t>(r)];
    rank.in.resize(call.input_size(r));
    for (std::size_t i = 0; i < rank.in.size(); ++i) rank.in[i] = Symbol::contribution(r, i);
    rank.out.resize(call.output_size(r));
    rank.scratch.resize(call.piece);
    rank.sent.resize(call.ranks());
    rank.received.resize(call.ranks());
    rank.sources.resize(call.ranks());
    const bool one_array = call.in_place || call.collective == Collective::broadcast;
    inputs[static_cast<std::size_t>(r)] = rank.in.data();
    outputs[static_cast<std::size_t>(r)] = one_array ? rank.in.data() : rank.out.data();
    ledger.own(r, rank.in.data(), rank.in.size() * sizeof(Symbol));
    ledger.own(r, rank.out.data(), rank.out.size() * sizeof(Symbol));
  }
  ledger.sort();

  Fibers* fibers = nullptr;
  Fibers all(call.world, call.schedule, [&](int r) {
    Rank& rank = ranks[static_cast<std::size_t>(r)];
    TraceTeam team(*fibers, ledger, r);
    const LinkState state{rank.sent.data(),
                          rank.received.data(),
                          &rank.window,
                          rank.sources.data(),
                          reinterpret_cast<std::byte*>(rank.scratch.data()),
                          inputs.data(),
                          outputs.data()};
    Links links(memory.data(), layout, state, 42, r);
    auto* const out = static_cast<Symbol*>(outputs[static_cast<std::size_t>(r)]);
    const std::size_t out_size =
        call.in_place || call.collective == Collective::broadcast ? rank.in.size() : rank.out.size();
    if constexpr (access_of<Algorithm>() != Access::none) {
      Window window = links.window();  // the meeting in which ranks learn where the arrays are
      assemble(team, window);
    }
    run_algorithm<Algorithm>(call, team, links, Span<const Symbol>(rank.in.data(), rank.in.size()),
                             Span<Symbol>(out, out_size));
    rank.disagreements = team.disagreements;
  });
  fibers = &all;

  Outcome outcome;
  outcome.waiting_for_ever = all.run();
  outcome.tally = ledger.tally();
  for (Rank& rank : ranks) {
    const bool one_array = call.in_place || call.collective == Collective::broadcast;
    outcome.results.push_back(one_array ? rank.in : std::move(rank.out));
    outcome.inputs.push_back(std::move(rank.in));
    outcome.disagreements.insert(outcome.disagreements.end(), rank.disagreements.begin(),
                                 rank.disagreements.end());
  }
  return outcome;
}

}  // namespace ringtree::trace
