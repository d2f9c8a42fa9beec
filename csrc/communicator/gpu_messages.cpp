#include "communicator/gpu_messages.h"

#include <algorithm>

#include "communicator/fault.h"

namespace ringtree {
namespace {

/// Calls of which names are kept. Only graphs that are never replayed leave that many behind.
constexpr std::size_t kMostCalls = 1024;

}  // namespace

std::uint64_t GpuMessages::begin(const std::vector<Letter>& letters) {
  const std::lock_guard lock(mutex_);
  Call& call = under_way_.emplace_back(Call{kGpuMessage | ++calls_, {}});
  for (const Letter& letter : letters) {
    std::uint64_t& count = count_of(rank_, letter.outgoing, letter.peer);
    const std::uint64_t number = count + 1;
    AtomicRef(count).store(number, release);  // pairs with: lacks()
    call.letters.push_back({letter, number,
                            segment_->board(rank_).begin_message(digest_of(letter), kGpuMessage | number,
                                                                 letter.peer, !letter.outgoing)});
  }
  if (under_way_.size() > kMostCalls) under_way_.pop_front();
  return call.sequence;
}

void GpuMessages::end(std::uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  for (; !under_way_.empty() && under_way_.front().sequence <= sequence; under_way_.pop_front())
    for (const Sent& sent : under_way_.front().letters) segment_->board(rank_).end_message(sent.place);
}

std::vector<GpuMessages::Sent> GpuMessages::letters_of(std::uint64_t sequence) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(under_way_.begin(), under_way_.end(),
                                  [&](const Call& call) { return call.sequence == sequence; });
  return found == under_way_.end() ? std::vector<Sent>{} : found->letters;
}

/// A call of a graph may need anybody.
bool GpuMessages::needs(std::uint64_t sequence, int peer) const {
  const std::vector<Sent> letters = letters_of(sequence);
  return letters.empty() || std::any_of(letters.begin(), letters.end(),
                                        [&](const Sent& sent) { return sent.letter.peer == peer; });
}

bool GpuMessages::lacks(std::uint64_t sequence, int peer) const {
  const std::vector<Sent> letters = letters_of(sequence);
  return std::any_of(letters.begin(), letters.end(), [&](const Sent& sent) {
    return sent.letter.peer == peer &&
           AtomicRef(count_of(peer, !sent.letter.outgoing, rank_)).load(acquire) < sent.number;
  });
}

std::uint64_t& GpuMessages::count_of(int rank, bool outgoing, int peer) const {
  return segment_->board(rank).gpu_letters[outgoing ? 1 : 0][static_cast<std::size_t>(peer)];
}

std::string GpuMessages::describe(std::uint64_t sequence, int peer) const {
  const std::vector<Sent> letters = letters_of(sequence);
  if (letters.empty()) return "a send or recv of a graph, on the GPU";
  const auto meant = std::find_if(letters.begin(), letters.end(),
                                  [&](const Sent& sent) { return sent.letter.peer == peer; });
  const Sent& named = meant == letters.end() ? letters.front() : *meant;
  return ringtree::describe(named.letter, named.number, true);
}

void GpuMessages::tell(const GpuFault& fault, double timeout_seconds) const {
  if (fault.kind == GpuFault::timeout)
    return raise_fault(
        *segment_, ErrorKind::Timeout, {fault.peer},
        describe_unanswered(describe(fault.sequence, fault.peer), fault.peer, timeout_seconds));
  std::string text = "rank " + std::to_string(fault.peer) + " sent another thing than " +
                     describe(fault.sequence, fault.peer) + " expects.";
  for (const Sent& sent : letters_of(fault.sequence)) {
    if (sent.letter.outgoing || sent.letter.peer != fault.peer || !is_digest(fault.sent) ||
        digest_of(sent.letter) == fault.sent)
      continue;
    text = describe_mismatch(sent.letter, rank_, fault.sent);
    break;
  }
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, fault.peer}, text);
}

}  // namespace ringtree
