#include "communicator/rendezvous.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>

#include "communicator/fault.h"
#include "communicator/liveness.h"
#include "communicator/patience.h"
#include "communicator/reach.h"
#include "communicator/segment.h"
#include "core/errors.h"

namespace ringtree {
namespace {

/// Whether writers get room to go round in: where ranks share cores, and so caches, it would be in their way,
/// and it may take only a part of what is free.
bool wants_room(int world, const Transport& transport) {
  constexpr std::size_t kShare = 4;
  return !is_oversubscribed(world) && Segment::bytes(world, true) <= transport.free_bytes() / kShare;
}

constexpr const char* kRoomy = "roomy";

/// What each rank says about itself, one field a line.
struct Introduction {
  std::string version, transport, world, reach, pid;
  std::string name;   ///< of the segment; this and the following from rank 0 alone
  std::string room;   ///< kRoomy, if it is
  std::string error;  ///< why there is no segment

  std::string text() const {
    return version + "\n" + transport + "\n" + world + "\n" + reach + "\n" + pid + "\n" + name + "\n" + room +
           "\n" + error;
  }

  static Introduction parse(const std::string& text) {
    Introduction result;
    std::istringstream lines(text);
    for (std::string* field : {&result.version, &result.transport, &result.world, &result.reach, &result.pid,
                               &result.name, &result.room})
      std::getline(lines, *field);
    std::getline(lines, result.error, '\0');
    return result;
  }
};

/// Forgets the name on every way out, so that a failed start leaves nothing behind either.
class Name {
 public:
  Name(Transport& transport, std::string name) : transport_(&transport), name_(std::move(name)) {}
  Name(const Name&) = delete;
  Name& operator=(const Name&) = delete;
  ~Name() {
    if (!name_.empty()) transport_->forget(name_);
  }

 private:
  Transport* transport_;
  std::string name_;
};

void compare(int own_rank, const std::vector<Introduction>& ranks, std::string Introduction::* field,
             const std::string& what, const std::string& advice) {
  for (std::size_t rank = 1; rank < ranks.size(); ++rank)
    if (ranks[rank].*field != ranks[0].*field)
      throw TransportError("rank " + std::to_string(own_rank) + ", init: rank 0 and rank " +
                               std::to_string(rank) + " " + what + " ('" + ranks[0].*field + "' and '" +
                               ranks[rank].*field + "'): " + advice,
                           {0, static_cast<int>(rank)});
}

/// Waits until all ranks, whose processes are `pids`, have mapped the memory.
void meet(Segment& segment, int rank, const std::vector<int>& pids, Recorder recorder,
          double timeout_seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point started = Clock::now();
  Board& board = segment.board(rank);
  board.pid = getpid();
  board.probe_address = reinterpret_cast<std::uintptr_t>(&probe_word());
  board.probe = probe_word();
  board.recorder = recorder;
  AtomicRef(board.state).store(Board::present, release);
  std::uint32_t& attached = segment.hall().attached;
  __atomic_fetch_add(&attached, 1, __ATOMIC_SEQ_CST);
  segment.ring_everyone();

  Doorbell& doorbell = segment.doorbells()[rank];
  for (;;) {
    const std::uint32_t ticket = doorbell.announce();
    const bool complete = AtomicRef(attached).load(seq_cst) == static_cast<std::uint32_t>(segment.world());
    if (!complete) doorbell.sleep(ticket, 20'000);
    doorbell.retire();
    if (complete) return;
    if (interrupted()) throw Interrupted();
    std::vector<int> missing, dead;
    for (int peer = 0; peer < segment.world(); ++peer) {
      if (AtomicRef(segment.board(peer).state).load(acquire) != Board::absent) continue;
      missing.push_back(peer);
      if (has_ended(pids[static_cast<std::size_t>(peer)])) dead.push_back(peer);
    }
    if (!dead.empty())
      throw RankFailure("rank " + std::to_string(rank) + ", init: " + list_ranks(dead) +
                            " died before the shared memory was mapped.",
                        dead);
    if (std::chrono::duration<double>(Clock::now() - started).count() < timeout_seconds) continue;
    throw Timeout("rank " + std::to_string(rank) + ", init: " + list_ranks(missing) +
                      " did not map the shared memory within " + format_seconds(timeout_seconds) + ".",
                  missing);
  }
}

/// For those who look from outside, and for the names of dumps.
void introduce(Hall& hall, int world, bool roomy, const std::string& name) {
  const std::string random = name.substr(name.size() < 32 ? 0 : name.size() - 32);
  std::copy_n(random.begin(), std::min(random.size(), hall.name.size() - 1), hall.name.begin());
  hall.world = static_cast<std::uint32_t>(world);
  hall.is_roomy = roomy ? 1 : 0;
  hall.layout = kSegmentLayout;
}

}  // namespace

std::unique_ptr<Memory> join(const std::string& transport_name, int rank, int world, double timeout_seconds,
                             const Exchange& exchange) {
  if (world < 1 || world > kMaxWorld)
    throw InvalidArgument("the world size must be 1 to " + std::to_string(kMaxWorld) + ", not " +
                          std::to_string(world));
  if (rank < 0 || rank >= world)
    throw InvalidArgument("rank must be 0 to " + std::to_string(world - 1) + ", not " + std::to_string(rank));
  if (!(timeout_seconds > 0))
    throw InvalidArgument("timeout must be more than 0 seconds, not " + std::to_string(timeout_seconds));

  const Recorder recorder = wanted_recorder();
  const std::unique_ptr<Transport> transport = make_transport(transport_name);
  Introduction own{RINGTREE_VERSION,
                   transport_name,
                   std::to_string(world),
                   transport->reach(),
                   std::to_string(getpid()),
                   "",
                   "",
                   ""};
  std::unique_ptr<Memory> memory;
  if (rank == 0) {
    try {
      const bool roomy = wants_room(world, *transport);
      if (roomy) own.room = kRoomy;
      std::tie(own.name, memory) = transport->create(Segment::bytes(world, roomy));
      introduce(Segment(memory->data(), world).hall(), world, roomy, own.name);
    } catch (const TransportError& error) {
      own.error = error.what();
    }
  }
  const Name forgotten_if_nobody_comes(*transport, own.name);

  std::vector<Introduction> ranks;
  for (const std::string& text : exchange(own.text())) ranks.push_back(Introduction::parse(text));
  if (static_cast<int>(ranks.size()) != world)
    throw TransportError("the rendezvous returned " + std::to_string(ranks.size()) + " ranks instead of " +
                         std::to_string(world));
  compare(rank, ranks, &Introduction::version, "run different versions of ringtree",
          "install the same one everywhere");
  compare(rank, ranks, &Introduction::transport, "use different transports",
          "pass the same one on all ranks");
  compare(rank, ranks, &Introduction::world, "believe in different world sizes",
          "check how they were started");
  compare(rank, ranks, &Introduction::reach, "cannot share memory",
          "the " + transport_name + " transport joins ranks of one host (and container) only");
  if (!ranks[0].error.empty())
    throw TransportError("rank " + std::to_string(rank) + ", init: on rank 0 " + ranks[0].error, {0});

  const Name forgotten_in_the_end(*transport, ranks[0].name);  // by every rank: rank 0 may die meanwhile
  if (rank != 0) memory = transport->open(ranks[0].name, Segment::bytes(world, ranks[0].room == kRoomy));
  Segment segment(memory->data(), world);
  std::vector<int> pids(ranks.size());
  std::transform(ranks.begin(), ranks.end(), pids.begin(),
                 [](const Introduction& peer) { return std::stoi(peer.pid); });
  meet(segment, rank, pids, recorder, timeout_seconds);
  return memory;
}

}  // namespace ringtree
