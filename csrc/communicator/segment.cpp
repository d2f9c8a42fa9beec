#include "communicator/segment.h"

#include <bit>

namespace ringtree {

using Words = std::array<std::uint64_t, 4>;
static_assert(sizeof(CallHeader) == sizeof(Words));

void Board::enter(const CallHeader& call) {
  const Words words = std::bit_cast<Words>(call);
  Words& record = records[call.sequence % kRecords];
  for (std::size_t i = 0; i < words.size(); ++i) AtomicRef(record[i]).store(words[i], relaxed);
  AtomicRef(arrived).store(call.sequence, release);  // pairs with: the acquire load in call()
}

std::optional<CallHeader> Board::call(std::uint64_t sequence) {
  if (AtomicRef(arrived).load(acquire) < sequence) return std::nullopt;
  Words words;
  Words& record = records[sequence % kRecords];
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = AtomicRef(record[i]).load(acquire);
  // Not overwritten while it was read: the call that would do so has not been entered yet.
  if (AtomicRef(arrived).load(relaxed) >= sequence + kRecords) return std::nullopt;
  const auto header = std::bit_cast<CallHeader>(words);
  if (header.sequence != sequence) return std::nullopt;
  return header;
}

void Segment::ring_everyone() const {
  for (int rank = 0; rank < world(); ++rank) doorbells()[rank].ring();
}

}  // namespace ringtree
