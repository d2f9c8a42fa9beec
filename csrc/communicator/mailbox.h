// send, recv and sendrecv: transfers between two ranks that are under way side by side with each other and
// with collectives.
//
// Transfers of one direction between two ranks keep their order; all others are independent. Every thread
// that waits for one moves all of them on, so no order of calls can block on the order of threads.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "communicator/letter.h"
#include "communicator/liveness.h"
#include "communicator/patience.h"
#include "communicator/reach.h"
#include "communicator/segment.h"
#include "communicator/work.h"
#include "core/team.h"

namespace ringtree {

class Mailbox {
 public:
  Mailbox(Segment& segment, const Liveness& liveness, Reach& reach, int rank,
          const std::atomic<double>& timeout_seconds);
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox();

  /// Starts the letters of one call. Blocking: returns once all are through. Returns nothing if they are.
  std::shared_ptr<Work> exchange(const std::vector<Letter>& letters, bool blocking,
                                 std::shared_ptr<void> keep);

  /// Moves letters on for as long as a peer may take to answer at once, or until `over` says so. For threads
  /// that are about to sleep over a letter.
  void move_for_a_while(const std::function<bool()>& over);

  /// Takes back a call of one letter of which nothing has moved yet and behind which no other stands; it is
  /// then never finished. False: it is too late.
  bool withdraw(const Work& work);

  /// Waits until nothing is under way, then ends the helper thread. What is asked of it later is refused.
  void close();

 private:
  using Clock = std::chrono::steady_clock;

  struct Call {
    std::size_t letters_left = 0;
    std::shared_ptr<Work> work;
    bool finished = false;
  };
  struct Transfer {
    Letter letter;
    std::uint64_t number;  ///< among the letters of its lane, from 1
    std::shared_ptr<Call> call;
    std::size_t moved_bytes = 0;
    bool both_ways = false;                ///< its call also goes the other way
    std::optional<std::uint64_t> offered;  ///< the turn in which the receiver was told where to read
    Clock::time_point since;               ///< when it last moved, or came to the head of its lane
    std::uint64_t record;                  ///< its place on the board
  };
  struct Lane {
    LaneCursor cursor{};
    std::uint64_t letters = 0;
    std::deque<Transfer> transfers;
  };
  class Watch;

  Lane& lane_of(const Letter& letter);
  Solo team_with(Patience& patience, int spins);
  Sender sender(Lane& lane, const Letter& letter);
  Receiver receiver(Lane& lane, const Letter& letter);

  bool pass_at_once(const Letter& letter, bool blocking);
  bool can_move(Lane& lane, const Letter& letter, Order order);
  bool can_move(Lane& lane, const Transfer& transfer, Order order);
  bool move_piece(Lane& lane, const Letter& letter, std::size_t offset, std::size_t bytes, Solo& team);
  bool offer(Lane& lane, Transfer& transfer, Solo& team);
  bool fetch(Lane& lane, Transfer& transfer, Solo& team);
  void move_next(Lane& lane, Solo& team);
  bool move_all(Solo& team, Order order);
  const Transfer* oldest() const;
  void wait_until_moved(Solo& team, Patience& patience, const Watch& watch,
                        const std::shared_ptr<Call>& call);
  void wait_for(const std::shared_ptr<Call>& call);
  std::uint64_t record(const Letter& letter, std::uint64_t number);
  void check_open(const Letter& letter) const;
  void tell_finished();
  void fail_all(const std::exception_ptr& error);
  void help();
  std::string describe(const Transfer& transfer) const;
  void raise_lost(const Transfer& transfer, int error);
  void raise_mismatch(const Letter& letter, std::uint64_t sent_digest);

  Segment* segment_;
  const Liveness* liveness_;
  Reach* reach_;
  int rank_;
  const std::atomic<double>* timeout_seconds_;
  int spins_;

  std::mutex mutex_;  ///< guards all below
  std::vector<Lane> outgoing_, incoming_;
  std::vector<SlotWays> ways_;
  std::vector<std::shared_ptr<Work>> finished_;  ///< whose calls are, but nobody has been told
  bool closing_ = false;
  int waiting_ = 0;  ///< threads in blocking calls
  std::condition_variable wanted_, ended_;
  std::unique_ptr<std::thread> helper_;
};

}  // namespace ringtree
