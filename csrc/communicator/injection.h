// Faults on order, for tests of what a program does when a rank dies, stops, is late or forgets a call:
//
//     RINGTREE_FAULT="rank=2,op=all_reduce,seq=137,kind=kill"      kill, stop, delay:50ms, drop
//
// A fault strikes when its rank makes the call: before anything is sent; with at=middle when the call is on
// its way, and the first pieces have gone to others. `seq` is the number in the texts of
// errors (collectives count together; send and recv each alone) and the fault then strikes once; without it,
// at every call, as without `op` at calls of any kind. Several faults are separated by semicolons.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "core/team.h"

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
    bool in_the_middle = false;
  };

  /// What becomes of a call.
  struct Fate {
    bool is_dropped = false;    ///< it must be left out
    std::vector<Fault> middle;  ///< what strikes on its way
  };

  /// Keeps those of `text` that are meant for `rank`. Throws InvalidArgument, which explains the grammar.
  Injection(const std::string& text, int rank, int world);

  /// This rank is about to call `op`: what is due at once strikes.
  Fate call(const std::string& op);

  /// A number is given to a collective that the user has not made.
  void pass_over();

  static void strike(const Fault& fault);

  /// The faults that `text` orders.
  static std::vector<Fault> parse(const std::string& text);

 private:
  std::vector<Fault> faults_;
  std::mutex mutex_;
  std::uint64_t collectives_ = 0, sends_ = 0, recvs_ = 0;
};

/// Waits like another, and strikes on the way: when as many words have been waited for as there are ranks,
/// each of which every algorithm first shows something, or at the end of the call, if it waits for fewer.
class Ambush : public Waiter {
 public:
  Ambush(Waiter& waiter, const std::vector<Injection::Fault>& faults, int world)
      : waiter_(&waiter), faults_(&faults), waits_left_(world) {}

  std::uint32_t prepare() override {
    if (--waits_left_ == 0) strike();
    return waiter_->prepare();
  }
  void rest(std::uint32_t ticket, int peer) override { waiter_->rest(ticket, peer); }
  void resume() noexcept override { waiter_->resume(); }
  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) override {
    waiter_->disagree(peer, sent, expected);
  }
  void lose(int peer, int error) override { waiter_->lose(peer, error); }

  void end() {
    if (waits_left_ > 0) strike();
  }

 private:
  void strike() const {
    for (const Injection::Fault& fault : *faults_) Injection::strike(fault);
  }

  Waiter* waiter_;
  const std::vector<Injection::Fault>* faults_;
  int waits_left_;
};

}  // namespace ringtree
