#include "communicator/board.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/errors.h"

namespace ringtree {
namespace {

using Words = std::array<std::uint64_t, 4>;
static_assert(sizeof(CallHeader) == sizeof(Words));

void set(std::uint64_t& word, std::uint64_t value) { AtomicRef(word).store(value, relaxed); }

/// "..." and as much of the end as there is room for; whole characters of UTF-8.
std::string shortened(const std::string& line) {
  constexpr std::size_t kRoom = sizeof(Line) - 1;
  constexpr std::string_view kMark = "...";
  if (line.size() <= kRoom) return line;
  const auto continues = [&line](std::size_t place) {
    return (static_cast<unsigned char>(line[place]) & 0xC0U) == 0x80U;
  };
  std::size_t begin = line.size() - (kRoom - kMark.size());
  while (begin < line.size() && continues(begin)) ++begin;
  return std::string(kMark) + line.substr(begin);
}

void set(Line& line, const std::string& text) {
  const std::string kept = shortened(text);
  Line words{};
  std::memcpy(words.data(), kept.data(), kept.size());
  // pairs with: text_of()
  for (std::size_t i = 0; i < words.size(); ++i) AtomicRef(line[i]).store(words[i], release);
}

}  // namespace

Recorder wanted_recorder() {
  const char* value = std::getenv("RINGTREE_RECORDER");
  const std::string_view wanted = value == nullptr ? "" : value;
  if (wanted.empty() || wanted == "on") return Recorder::on;
  if (wanted == "off") return Recorder::off;
  if (wanted == "lines") return Recorder::lines;
  throw InvalidArgument("RINGTREE_RECORDER must be on, off or lines, not '" + std::string(wanted) + "'");
}

/// Who sees the line of a newer call sees that call's header afterwards.
std::string text_of(const Line& line) {
  Line words{};
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = AtomicRef(const_cast<std::uint64_t&>(line[i])).load(acquire);  // pairs with: set()
  std::array<char, sizeof(Line)> text = std::bit_cast<std::array<char, sizeof(Line)>>(words);
  text.back() = 0;
  return text.data();
}

void Board::enter(const CallHeader& call, std::uint64_t digest, std::uint64_t bytes,
                  const std::string& line) {
  const Words words = std::bit_cast<Words>(call);
  CallRecord& record = calls[call.sequence % kCalls];
  for (std::size_t i = 0; i < words.size(); ++i) set(record.header[i], words[i]);
  if (recorder != Recorder::off) {
    set(record.began_ns, bytes < Board::kTimedBytes ? coarse_ns() : precise_ns());
    set(record.bytes, bytes);
  }
  if (recorder == Recorder::lines) set(lines[call.sequence % kCalls], line);
  trail = (trail ^ digest) * 0x9E3779B97F4A7C15U + 1;
  if (call.sequence % kBetweenMarks == 0) set(marks[call.sequence / kBetweenMarks % marks.size()], trail);
  AtomicRef(arrived).store(call.sequence, release);  // pairs with: the acquire load in call()
}

std::uint64_t Board::mark_of(std::uint64_t sequence) {
  return AtomicRef(marks[sequence / kBetweenMarks % marks.size()]).load(relaxed);
}

void Board::leave(const CallHeader& call, std::uint64_t bytes, std::uint8_t ran) {
  if (recorder != Recorder::off) {
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
  const std::uint64_t place = __atomic_fetch_add(&messages, 1, __ATOMIC_ACQ_REL);
  if (recorder != Recorder::off) {
    MessageRecord& record = letters[place % kMessages];
    set(record.number, 0);  // a snapshot passes it over meanwhile
    set(record.contents, contents);
    set(record.address, static_cast<std::uint64_t>(peer) * 4 + (received ? 1 : 0));
    set(record.began_ns, coarse_ns());
    AtomicRef(record.number).store(number, release);  // pairs with: the snapshot's
  }
  return place;
}

void Board::end_message(std::uint64_t place) {
  if (recorder == Recorder::off || AtomicRef(messages).load(relaxed) - place > kMessages) return;
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
