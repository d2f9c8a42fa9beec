#include "communicator/letter.h"

#include "communicator/fault.h"

namespace ringtree {

std::uint64_t digest_of(const Letter& letter) {
  return static_cast<std::uint64_t>(letter.count) << 8U | static_cast<std::uint64_t>(letter.dtype);
}

bool is_digest(std::uint64_t word) {
  constexpr unsigned kCountBits = 48;
  return (word & 0xFFU) < kDTypes && word >> 8U < std::uint64_t{1} << kCountBits;
}

std::string contents(std::uint64_t digest) {
  return std::string(name_of(static_cast<DType>(digest & 0xFFU))) + " x " + std::to_string(digest >> 8U);
}

std::string describe(const Letter& letter, std::uint64_t number, bool on_gpu) {
  return std::string(letter.name()) + " #" + std::to_string(number) +
         (letter.outgoing ? " to rank " : " from rank ") + std::to_string(letter.peer) + " (" +
         contents(digest_of(letter)) + (on_gpu ? ", on the GPU)" : ")");
}

std::string describe_mismatch(const Letter& letter, int rank, std::uint64_t sent_digest) {
  return "rank " + std::to_string(letter.peer) + " sent " + contents(sent_digest) + " to rank " +
         std::to_string(rank) + ", which receives " + contents(digest_of(letter)) + ".";
}

std::string describe_unanswered(const std::string& letter, int peer, double seconds) {
  return letter + " was not answered within " + format_seconds(seconds) + ": rank " + std::to_string(peer) +
         " has not made the matching call.";
}

}  // namespace ringtree
