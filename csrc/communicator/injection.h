// Faults on order, for tests of what a program does when a rank dies, stops, is late or forgets a call:
//
//     RINGTREE_FAULT="rank=2,op=all_reduce,seq=137,kind=kill"      kill, stop, delay:50ms, drop
//
// A fault strikes when its rank makes the call: before anything is sent. `seq` is the number in the texts of
// errors (collectives count together; send and recv each alone) and the fault then strikes once; without it,
// at every call, as without `op` at calls of any kind. Several faults are separated by semicolons.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace ringtree {

class Injection {
 public:
  enum class Kind { kill, stop, delay, drop };
  struct Fault {
    int rank = 0;
    std::string op;              ///< empty: any
    std::uint64_t sequence = 0;  ///< 0: any
    Kind kind = Kind::kill;
    std::chrono::microseconds delay{0};
  };

  /// Keeps those of `text` that are meant for `rank`. Throws InvalidArgument, which explains the grammar.
  Injection(const std::string& text, int rank, int world);

  /// This rank is about to call `op`. True: it must leave the call out.
  bool strikes(const std::string& op);

  /// The faults that `text` orders.
  static std::vector<Fault> parse(const std::string& text);

 private:
  std::vector<Fault> faults_;
  std::mutex mutex_;
  std::uint64_t collectives_ = 0, sends_ = 0, recvs_ = 0;
};

}  // namespace ringtree
