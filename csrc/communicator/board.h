// What one rank tells the others, and whoever looks on: who it is, what it calls, and whom it waits for.
//
// Its newest calls are the flight recorder. Ranks compare them when calls do not fit together; after an error
// they are written to a file (communicator/dump.h); `ringtree top` reads them from outside.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/call.h"
#include "core/clock.h"
#include "core/gpu.h"
#include "core/platform.h"

namespace ringtree {

inline constexpr int kMaxWorld = 1024;

/// Nobody enters a collective before everybody has entered the one that is so many calls older.
inline constexpr std::uint64_t kMaxLead = 8;

/// One collective. Plain words, because others read them at any time.
struct alignas(kCacheLine) CallRecord {
  std::array<std::uint64_t, 4> header;  ///< a CallHeader
  std::uint64_t began_ns;
  std::uint64_t bytes;     ///< as in Priced
  std::uint64_t ended_ns;  ///< this and the next once it is over, if it has kTimedBytes or more
  std::uint64_t ran;       ///< the algorithm in the end
};

/// Where the program made a collective: "/home/me/train.py:31", ended by a zero byte. Of a long path the end.
using Line = std::array<std::uint64_t, 12>;

/// One message, as its sender or its receiver sees it.
struct MessageRecord {
  std::uint64_t contents;  ///< count and type, as in the message itself
  std::uint64_t number;    ///< among those of its lane, with kGpuMessage if that is one of a GPU
  std::uint64_t address;   ///< 4 * peer + 2 if it is over + 1 if it is received
  std::uint64_t began_ns;
};

/// What a rank notes of its calls, beside what ranks need to compare them.
enum class Recorder : std::uint32_t {
  off,
  on,     ///< times and messages
  lines,  ///< also where the program made them
};

/// RINGTREE_RECORDER. Throws InvalidArgument if it is something else.
Recorder wanted_recorder();

/// Written by its rank alone.
struct alignas(kCacheLine) Board {
  enum State : std::uint32_t { absent, present, left };
  enum Access : std::uint32_t { tried = 1, opens_files = 2, reads_memory = 4 };
  static constexpr std::size_t kCalls = 64, kMessages = 32;
  static constexpr std::uint64_t kBetweenMarks = kMaxLead / 2;
  static_assert(2 * kMaxLead < kCalls, "what two ranks compare is still there");
  static constexpr std::uint64_t kTimedBytes = std::uint64_t{256} << 10U;

  std::uint64_t arrived;               ///< the sequence number of the newest collective it has entered
  std::uint64_t done;                  ///< of the newest it has finished
  std::uint64_t moved;                 ///< bytes of all collectives that it has finished
  std::array<std::uint64_t, 4> marks;  ///< hashes of all its calls up to some of the newest
  std::uint64_t trail;                 ///< hash of all its calls
  std::uint64_t awaited;               ///< 1 + the rank that it waits for, asleep; 0: none
  std::uint64_t awaited_since_ns;
  Recorder recorder;

  std::uint32_t state;
  std::int32_t pid;
  std::uint64_t probe_address;  ///< in that process: where `probe` stands too, for those who may look
  std::uint64_t probe;
  std::uint32_t access;  ///< to its peers' memory: Access bits, 0 until it has tried

  std::uint64_t shrinking;                              ///< the round of shrink() it has come to
  std::uint64_t offered;                                ///< the round for which its note is written
  std::array<std::uint64_t, kMaxWorld / 64> survivors;  ///< what it proposes

  std::uint64_t ended_on_gpu;  ///< kernels of collectives of which it knows that they are over

  /// Letters that it has enqueued on its GPU, by direction (1: sent) and peer.
  std::array<std::array<std::uint64_t, kMaxGpuRanks>, 2> gpu_letters;

  std::uint64_t messages;  ///< how many it has begun to send or receive
  std::array<CallRecord, kCalls> calls;
  std::array<MessageRecord, kMessages> letters;
  std::array<Line, kCalls> lines;  ///< of `calls`; at the end, so that nothing else lies further apart

  /// `digest` is the call's; `line` is where the program made it.
  void enter(const CallHeader& call, std::uint64_t digest, std::uint64_t bytes, const std::string& line);
  /// A hash of the calls up to `sequence`, a multiple of kBetweenMarks that is not long ago.
  std::uint64_t mark_of(std::uint64_t sequence);
  /// The newest call is over; `ran` is the algorithm.
  void leave(const CallHeader& call, std::uint64_t bytes, std::uint8_t ran);

  /// Returns the place of the record, for end_message().
  std::uint64_t begin_message(std::uint64_t contents, std::uint64_t number, int peer, bool received);
  void end_message(std::uint64_t place);

  /// The call that this rank made, or makes, under `sequence`; nothing if it has not come so far or if that
  /// was too long ago.
  std::optional<CallHeader> call(std::uint64_t sequence);
};

/// For those who read a record while its rank may overwrite it: the line before the header.
std::string text_of(const Line& line);

}  // namespace ringtree
