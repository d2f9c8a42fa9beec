#include "communicator/call.h"

#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

std::string describe(const CallHeader& call) {
  const auto collective = static_cast<Collective>(call.collective);
  std::string text =
      std::string(kCollectiveNames[call.collective]) + " #" + std::to_string(call.sequence) + " (";
  const auto add = [&text](const std::string& part) { text += (text.back() == '(' ? "" : ", ") + part; };
  if (collective != Collective::barrier) {
    const std::string uneven = call.layout != 0 ? " in uneven shares" : "";
    add(std::string(name_of(static_cast<DType>(call.dtype))) +
        (call.count != 0 || call.layout == 0 ? " x " + std::to_string(call.count) : "") + uneven);
  }
  switch (collective) {
    case Collective::all_reduce:
    case Collective::reduce_scatter: add(name_of(static_cast<ReduceOp>(call.op))); break;
    case Collective::reduce: add(name_of(static_cast<ReduceOp>(call.op))); [[fallthrough]];
    case Collective::broadcast:
    case Collective::gather:
    case Collective::scatter: add("root " + std::to_string(call.root)); break;
    default: break;
  }
  add(catalogue()[call.algorithm_index()].name);
  if (call.asks_for_zero_copy()) text += " or zero_copy";
  if (call.is_on_gpu()) add("on the GPU");
  return text + ")";
}

void CallConcern::check_agreement() const {
  for (int peer = 0; peer < segment_->world(); ++peer)
    if (peer != rank_) check_agreement_with(peer);
}

void CallConcern::check_agreement_with(int peer) const {
  for (std::uint64_t sequence = first_open_; sequence <= call_.sequence; ++sequence) {
    const std::optional<CallHeader> ours = segment_->board(rank_).call(sequence);
    const std::optional<CallHeader> theirs = segment_->board(peer).call(sequence);
    if (ours && theirs) compare(*ours, *theirs, peer);
  }
}

void CallConcern::compare(const CallHeader& ours, const CallHeader& theirs, int peer) const {
  if (digest_of(ours) == digest_of(theirs)) return;
  const bool only_shares = theirs.layout != ours.layout && theirs.count == ours.count;
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, peer},
              "rank " + std::to_string(rank_) + " called " + ringtree::describe(ours) + " but rank " +
                  std::to_string(peer) + " called " + ringtree::describe(theirs) +
                  (only_shares ? ", and the counts they gave differ." : "."));
}

bool CallConcern::needs(int peer) const {
  return AtomicRef(segment_->board(peer).done).load(acquire) < call_.sequence;
}

void CallConcern::give_up(int peer, double seconds) const {
  std::vector<int> missing;
  for (int rank = 0; rank < segment_->world(); ++rank)
    if (rank != rank_ && AtomicRef(segment_->board(rank).arrived).load(acquire) < call_.sequence)
      missing.push_back(rank);
  const std::string text =
      missing.empty() ? "all ranks have arrived, but rank " + std::to_string(peer) + " did not go on"
                      : list_ranks(missing) + (missing.size() == 1 ? " has" : " have") + " not called it";
  raise_fault(*segment_, ErrorKind::Timeout, missing.empty() ? std::vector<int>{peer} : missing,
              describe() + " was not complete after " + format_seconds(seconds) + ": " + text + ".");
}

void CallConcern::disagree(int peer, std::uint64_t sent, std::uint64_t expected) const {
  check_agreement_with(peer);
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, peer},
              "in " + describe() + " rank " + std::to_string(peer) + " sent a piece of " +
                  std::to_string(sent) + " bytes where rank " + std::to_string(rank_) + " expects " +
                  std::to_string(expected) + ": the counts they gave differ.");
  throw_fault(*segment_, rank_, describe());
}

}  // namespace ringtree
