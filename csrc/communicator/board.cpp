#include "communicator/board.h"

#include <bit>
#include <cstdlib>
#include <string_view>

namespace ringtree {
namespace {

using Words = std::array<std::uint64_t, 4>;
static_assert(sizeof(CallHeader) == sizeof(Words));

void set(std::uint64_t& word, std::uint64_t value) { AtomicRef(word).store(value, relaxed); }

}  // namespace

bool recorder_is_wanted() {
  const char* wanted = std::getenv("RINGTREE_RECORDER");
  return wanted == nullptr || std::string_view(wanted) != "off";
}

void Board::enter(const CallHeader& call, std::uint64_t digest, std::uint64_t bytes) {
  const Words words = std::bit_cast<Words>(call);
  CallRecord& record = calls[call.sequence % kCalls];
  for (std::size_t i = 0; i < words.size(); ++i) set(record.header[i], words[i]);
  if (records != 0) {
    set(record.began_ns, bytes < Board::kTimedBytes ? coarse_ns() : precise_ns());
    set(record.bytes, bytes);
  }
  trail = (trail ^ digest) * 0x9E3779B97F4A7C15U + 1;
  if (call.sequence % kBetweenMarks == 0) set(marks[call.sequence / kBetweenMarks % marks.size()], trail);
  AtomicRef(arrived).store(call.sequence, release);  // pairs with: the acquire load in call()
}

std::uint64_t Board::mark_of(std::uint64_t sequence) {
  return AtomicRef(marks[sequence / kBetweenMarks % marks.size()]).load(relaxed);
}

void Board::leave(const CallHeader& call, std::uint64_t bytes, std::uint8_t ran) {
  if (records != 0) {
    if (bytes >= kTimedBytes) {
      CallRecord& record = calls[call.sequence % kCalls];
      set(record.ran, ran);
      set(record.ended_ns, precise_ns());
    }
    set(moved, moved + bytes);
  }
  AtomicRef(done).store(call.sequence,
                        release);  // pairs with: whoever asks whether this rank is still needed
}

std::uint64_t Board::begin_message(std::uint64_t contents, std::uint64_t number, int peer, bool received) {
  const std::uint64_t place = messages;
  if (records != 0) {
    MessageRecord& record = letters[place % kMessages];
    set(record.contents, contents);
    set(record.number, number);
    set(record.address, static_cast<std::uint64_t>(peer) * 4 + (received ? 1 : 0));
    set(record.began_ns, coarse_ns());
  }
  AtomicRef(messages).store(place + 1, release);  // pairs with: the snapshot's
  return place;
}

void Board::end_message(std::uint64_t place) {
  if (records == 0 || messages - place > kMessages) return;
  std::uint64_t& address = letters[place % kMessages].address;
  set(address, address | 2U);
}

std::optional<CallHeader> Board::call(std::uint64_t sequence) {
  if (AtomicRef(arrived).load(acquire) < sequence) return std::nullopt;
  Words words;
  CallRecord& record = calls[sequence % kCalls];
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = AtomicRef(record.header[i]).load(acquire);
  // Not overwritten while it was read: the call that would do so has not been entered yet.
  if (AtomicRef(arrived).load(relaxed) >= sequence + kCalls) return std::nullopt;
  const auto header = std::bit_cast<CallHeader>(words);
  if (header.sequence != sequence) return std::nullopt;
  return header;
}

}  // namespace ringtree
