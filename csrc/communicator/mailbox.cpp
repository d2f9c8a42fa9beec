#include "communicator/mailbox.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "communicator/fault.h"
#include "communicator/request.h"
#include "core/stream.h"

namespace ringtree {
namespace {

/// In place of a piece's size: the message says where the receiver can read all of it.
constexpr std::uint32_t kOffered = ~std::uint32_t{0};

}  // namespace

/// What a thread that waits for letters worries about: all of them, whosever they are.
class Mailbox::Watch : public Concern {
 public:
  explicit Watch(Mailbox& box) : box_(&box) {}

  std::string describe() const override {
    const std::lock_guard lock(box_->mutex_);
    const Transfer* transfer = box_->oldest();
    return transfer == nullptr ? "send or recv" : box_->describe(*transfer);
  }

  void check_agreement() const override {
    std::string late;
    int peer = 0;
    {
      const std::lock_guard lock(box_->mutex_);
      const Transfer* transfer = box_->oldest();
      if (transfer == nullptr ||
          std::chrono::duration<double>(Clock::now() - transfer->since).count() < *box_->timeout_seconds_)
        return;
      late = box_->describe(*transfer);
      peer = transfer->letter.peer;
    }
    raise_fault(*box_->segment_, ErrorKind::Timeout, {peer},
                describe_unanswered(late, peer, *box_->timeout_seconds_));
  }

  bool needs(int peer) const override {
    const std::lock_guard lock(box_->mutex_);
    const auto stuck = [&](Lane& lane) {
      return !lane.transfers.empty() && !box_->can_move(lane, lane.transfers.front(), acquire);
    };
    const auto index = static_cast<std::size_t>(peer);
    return stuck(box_->outgoing_[index]) || stuck(box_->incoming_[index]);
  }

  void give_up(int /*peer*/, double /*seconds*/) const override {}  // each letter has its own clock

  int awaited(int peer) const override {
    const std::lock_guard lock(box_->mutex_);
    const Transfer* transfer = box_->oldest();
    return transfer == nullptr ? peer : transfer->letter.peer;
  }

  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) const override {
    raise_fault(*box_->segment_, ErrorKind::Mismatch, {box_->rank_, peer},
                "rank " + std::to_string(peer) + " sent a piece of " + std::to_string(sent) +
                    " bytes where rank " + std::to_string(box_->rank_) + " expects " +
                    std::to_string(expected) + ".");
    throw_fault(*box_->segment_, box_->rank_, "recv from rank " + std::to_string(peer));
  }

 private:
  Mailbox* box_;
};

Mailbox::Mailbox(Segment& segment, const Liveness& liveness, Reach& reach, int rank,
                 const std::atomic<double>& timeout_seconds)
    : segment_(&segment),
      liveness_(&liveness),
      reach_(&reach),
      rank_(rank),
      timeout_seconds_(&timeout_seconds),
      spins_(spins_for(segment.world())),
      outgoing_(static_cast<std::size_t>(segment.world())),
      incoming_(static_cast<std::size_t>(segment.world())),
      ways_(static_cast<std::size_t>(segment.world()), SlotWays(false)) {}

Mailbox::~Mailbox() { close(); }

std::shared_ptr<Work> Mailbox::exchange(const std::vector<Letter>& letters, bool blocking,
                                        std::shared_ptr<void> keep) {
  std::size_t passed = 0;
  while (passed < letters.size() && pass_at_once(letters[passed], blocking)) ++passed;
  if (passed == letters.size()) return nullptr;

  const auto call = std::make_shared<Call>();
  call->letters_left = letters.size() - passed;
  {
    const std::lock_guard lock(mutex_);
    check_open(letters[passed]);
    for (const Letter& letter : std::span(letters).subspan(passed)) {
      Lane& to = lane_of(letter);
      to.transfers.push_back({letter, ++to.letters, call, 0, letters.size() > 1, std::nullopt, Clock::now(),
                              record(letter, to.letters)});
      if (!call->work)
        call->work = std::make_shared<Work>(
            "rank " + std::to_string(rank_) + ", " + describe(to.transfers.back()), std::move(keep));
    }
    if (blocking)
      ++waiting_;
    else if (!helper_)
      helper_ = std::make_unique<std::thread>([this] { help(); });
  }
  if (!blocking) {
    wanted_.notify_one();
    segment_->doorbells()[rank_].ring_if_awaited();  // the helper may be asleep over older letters
    return call->work;
  }
  std::exception_ptr error;
  try {
    wait_for(call);
  } catch (...) {
    error = std::current_exception();
    fail_all(error);
  }
  {
    const std::lock_guard lock(mutex_);
    --waiting_;
  }
  ended_.notify_all();
  if (error) std::rethrow_exception(error);
  call->work->wait();
  return nullptr;
}

void Mailbox::wait_for(const std::shared_ptr<Call>& call) {
  Patience patience(*segment_, *liveness_, rank_, *timeout_seconds_);
  Solo team = team_with(patience, spins_);
  const Watch watch(*this);
  for (bool finished = false; !finished;) {
    wait_until_moved(team, patience, watch, call);
    const std::lock_guard lock(mutex_);
    finished = call->finished;
  }
}

/// Under `mutex_`.
std::uint64_t Mailbox::record(const Letter& letter, std::uint64_t number) {
  return segment_->board(rank_).begin_message(digest_of(letter), number, letter.peer, !letter.outgoing);
}

/// Under `mutex_`.
void Mailbox::check_open(const Letter& letter) const {
  if (closing_)
    throw InvalidArgument(refusal(rank_, letter.outgoing ? "send" : "recv", "this communicator is closed"));
}

void Mailbox::move_for_a_while(const std::function<bool()>& over) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    ++waiting_;  // close() waits for this thread, too
  }
  Patience patience(*segment_, *liveness_, rank_, *timeout_seconds_);
  Solo team = team_with(patience, spins_);
  const Watch watch(*this);
  patience.begin(watch);
  try {
    for (int look = 0; look < spins_ && !over() && !has_fault(*segment_); ++look) {
      bool moved = false;
      {
        const std::lock_guard lock(mutex_);
        moved = move_all(team, acquire);
      }
      if (moved)
        tell_finished();
      else
        relax();
    }
  } catch (...) {
    fail_all(std::current_exception());
  }
  {
    const std::lock_guard lock(mutex_);
    --waiting_;
  }
  ended_.notify_all();
}

bool Mailbox::withdraw(const Work& work) {
  const std::lock_guard lock(mutex_);
  for (std::vector<Lane>* lanes : {&outgoing_, &incoming_}) {
    for (Lane& lane : *lanes) {
      if (lane.transfers.empty() || lane.transfers.back().call->work.get() != &work) continue;
      const Transfer& transfer = lane.transfers.back();
      if (transfer.moved_bytes != 0 || transfer.offered || transfer.call->letters_left != 1) return false;
      segment_->board(rank_).end_message(transfer.record);
      --lane.letters;
      lane.transfers.pop_back();
      return true;
    }
  }
  return false;
}

void Mailbox::close() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    ended_.wait(lock, [this] { return waiting_ == 0; });
  }
  wanted_.notify_all();
  if (helper_) helper_->join();
  helper_.reset();
}

Mailbox::Lane& Mailbox::lane_of(const Letter& letter) {
  return (letter.outgoing ? outgoing_ : incoming_)[static_cast<std::size_t>(letter.peer)];
}

/// A letter of one piece that nothing stands before: whether it was sent, or is there, or came within a short
/// spin if the caller waits. Whatever needs patience is left to the transfers.
bool Mailbox::pass_at_once(const Letter& letter, bool blocking) {
  const std::size_t bytes = letter.bytes();
  if (bytes > segment_->layout().mail.slot_bytes) return false;
  Patience patience(*segment_, *liveness_, rank_, *timeout_seconds_);
  Solo team = team_with(patience, spins_);
  for (int look = letter.outgoing || !blocking ? 1 : spins_; look > 0; --look) {
    {
      const std::lock_guard lock(mutex_);
      Lane& lane = lane_of(letter);
      if (closing_ || !lane.transfers.empty() || has_fault(*segment_)) return false;
      if (can_move(lane, letter, acquire)) {
        if (!move_piece(lane, letter, 0, bytes, team)) return false;
        segment_->board(rank_).end_message(record(letter, ++lane.letters));
        return true;
      }
    }
    relax();
  }
  return false;
}

Solo Mailbox::team_with(Patience& patience, int spins) {
  return {patience, segment_->doorbells(), rank_, segment_->world(), spins, 0, ways_.data()};
}

Sender Mailbox::sender(Lane& lane, const Letter& letter) {
  return {segment_->links() + segment_->layout().mail_offset(rank_, letter.peer), segment_->layout().mail,
          lane.cursor, digest_of(letter), letter.peer};
}

Receiver Mailbox::receiver(Lane& lane, const Letter& letter) {
  return {segment_->links() + segment_->layout().mail_offset(letter.peer, rank_), segment_->layout().mail,
          lane.cursor, digest_of(letter), letter.peer};
}

bool Mailbox::can_move(Lane& lane, const Letter& letter, Order order) {
  return letter.outgoing ? sender(lane, letter).ready(order) : receiver(lane, letter).ready(order);
}

bool Mailbox::can_move(Lane& lane, const Transfer& transfer, Order order) {
  return transfer.offered ? sender(lane, transfer.letter).is_drained(*transfer.offered, order)
                          : can_move(lane, transfer.letter, order);
}

/// Of a letter that can move. False: what arrives belongs to another call, which is now a fault.
bool Mailbox::move_piece(Lane& lane, const Letter& letter, std::size_t offset, std::size_t bytes,
                         Solo& team) {
  if (letter.outgoing) {
    Sender to = sender(lane, letter);
    const Claim slot = to.claim(team, bytes);
    auto way = team.way_to(letter.peer, bytes);
    team.put(way, slot.data, letter.data + offset, bytes);
    to.publish(team, slot, bytes);
  } else {
    Receiver from = receiver(lane, letter);
    if (from.next().digest != digest_of(letter)) {
      raise_mismatch(letter, from.next().digest);
      return false;
    }
    const Claim arrived = from.arrival(team, bytes);
    if (letter.bytes() >= kStreamBytes)
      stream_copy(letter.data + offset, arrived.data, bytes);
    else
      team.copy(letter.data + offset, arrived.data, bytes);
    from.release(team, arrived);
  }
  return true;
}

/// Tells the receiver where to read, if that is better than sending pieces. The slot comes back when it has.
bool Mailbox::offer(Lane& lane, Transfer& transfer, Solo& team) {
  const Letter& letter = transfer.letter;
  const std::size_t bytes = letter.bytes();
  if (!letter.outgoing || transfer.moved_bytes != 0 || bytes <= segment_->layout().mail.slot_bytes)
    return false;
  const std::optional<Offer> offer = reach_->offer_to(letter.peer, letter.data, bytes, transfer.both_ways);
  if (!offer) return false;
  Sender to = sender(lane, letter);
  const Claim slot = to.claim(team, sizeof(Offer));
  std::memcpy(slot.data, &*offer, sizeof(Offer));
  to.publish(team, slot, kOffered);
  transfer.offered = slot.turn;
  return true;
}

/// Reads a part of what the sender offers. False: it sends pieces, or reading failed, which is now a fault.
bool Mailbox::fetch(Lane& lane, Transfer& transfer, Solo& team) {
  constexpr std::size_t kPart = std::size_t{1} << 20U;  // then others, and faults, have their turn
  const Letter& letter = transfer.letter;
  Receiver from = receiver(lane, letter);
  SlotHeader& header = from.next();
  if (letter.outgoing || header.bytes != kOffered || header.digest != digest_of(letter)) return false;
  Offer offer{};
  std::memcpy(&offer, header.data(sizeof(Offer)), sizeof(Offer));
  const std::size_t bytes = letter.bytes(), part = std::min(bytes - transfer.moved_bytes, kPart);
  const int error = reach_->copy_from(letter.peer, offer, transfer.moved_bytes,
                                      letter.data + transfer.moved_bytes, part, bytes >= kStreamBytes);
  if (error != 0) {
    raise_lost(transfer, error);
    return false;
  }
  transfer.moved_bytes += part;
  if (transfer.moved_bytes == bytes) from.release(team, from.arrival(team, kOffered));
  return true;
}

void Mailbox::move_next(Lane& lane, Solo& team) {
  Transfer& transfer = lane.transfers.front();
  const Letter& letter = transfer.letter;
  if (transfer.offered) {
    transfer.moved_bytes = letter.bytes();
  } else if (offer(lane, transfer, team)) {
    return;
  } else if (!fetch(lane, transfer, team)) {
    if (has_fault(*segment_)) return;
    const std::size_t bytes =
        std::min(letter.bytes() - transfer.moved_bytes, segment_->layout().mail.slot_bytes);
    if (!move_piece(lane, letter, transfer.moved_bytes, bytes, team)) return;
    transfer.moved_bytes += bytes;
  }
  transfer.since = Clock::now();
  if (transfer.moved_bytes < letter.bytes()) return;

  const std::shared_ptr<Call> call = transfer.call;
  segment_->board(rank_).end_message(transfer.record);
  lane.transfers.pop_front();
  if (!lane.transfers.empty()) lane.transfers.front().since = Clock::now();
  if (--call->letters_left == 0) {
    call->finished = true;
    finished_.push_back(call->work);
  }
}

/// Not under `mutex_`: what follows a call may begin the next one.
void Mailbox::tell_finished() {
  std::vector<std::shared_ptr<Work>> finished;
  {
    const std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (const std::shared_ptr<Work>& work : finished) work->finish(nullptr);
}

/// Moves what can move; whether anything did.
bool Mailbox::move_all(Solo& team, Order order) {
  bool moved = false;
  for (std::vector<Lane>* lanes : {&outgoing_, &incoming_}) {
    for (Lane& lane : *lanes) {
      while (!lane.transfers.empty() && can_move(lane, lane.transfers.front(), order) &&
             !has_fault(*segment_)) {
        move_next(lane, team);
        moved = true;
      }
    }
  }
  return moved;
}

const Mailbox::Transfer* Mailbox::oldest() const {
  const Transfer* oldest = nullptr;
  for (const std::vector<Lane>* lanes : {&outgoing_, &incoming_})
    for (const Lane& lane : *lanes)
      if (!lane.transfers.empty() && (oldest == nullptr || lane.transfers.front().since < oldest->since))
        oldest = &lane.transfers.front();
  return oldest;
}

/// Waits until a letter has moved, or `call`, if there is one, is finished.
void Mailbox::wait_until_moved(Solo& team, Patience& patience, const Watch& watch,
                               const std::shared_ptr<Call>& call) {
  patience.begin(watch);
  team.await(rank_, [&](Order order) {
    const std::lock_guard lock(mutex_);
    return move_all(team, order) || oldest() == nullptr || (call && call->finished);
  });
  tell_finished();
}

void Mailbox::fail_all(const std::exception_ptr& error) {
  tell_finished();
  std::vector<std::shared_ptr<Work>> failed;
  {
    const std::lock_guard lock(mutex_);
    for (std::vector<Lane>* lanes : {&outgoing_, &incoming_}) {
      for (Lane& lane : *lanes) {
        for (const Transfer& transfer : lane.transfers) {
          transfer.call->finished = true;
          failed.push_back(transfer.call->work);
        }
        lane.transfers.clear();
      }
    }
  }
  for (const std::shared_ptr<Work>& work : failed) work->finish(error);
}

/// The helper thread: moves letters on while nobody waits for them.
void Mailbox::help() {
  Patience patience(*segment_, *liveness_, rank_, *timeout_seconds_);
  // The rank's own thread computes meanwhile.
  Solo team = team_with(patience, spins_for(2 * segment_->world()));
  const Watch watch(*this);
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [this] { return closing_ || oldest() != nullptr; });
      if (closing_ && oldest() == nullptr) return;
    }
    try {
      wait_until_moved(team, patience, watch, nullptr);
    } catch (...) {
      fail_all(std::current_exception());
    }
  }
}

std::string Mailbox::describe(const Transfer& transfer) const {
  return ringtree::describe(transfer.letter, transfer.number);
}

void Mailbox::raise_lost(const Transfer& transfer, int error) {
  const int peer = transfer.letter.peer;
  if (error == ESRCH) return raise_death(*segment_, {peer}, describe(transfer));
  raise_fault(*segment_, ErrorKind::TransportError, {peer},
              "reading the memory of rank " + std::to_string(peer) + " failed in " + describe(transfer) +
                  ": " + std::strerror(error) + "; was the array freed before it was sent?");
}

void Mailbox::raise_mismatch(const Letter& letter, std::uint64_t sent_digest) {
  raise_fault(*segment_, ErrorKind::Mismatch, {rank_, letter.peer},
              describe_mismatch(letter, rank_, sent_digest));
}

}  // namespace ringtree
