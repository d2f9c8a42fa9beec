// How a rank waits: it spins (Solo), then yields, then sleeps; and while it sleeps it looks around for what
// could make waiting pointless.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "communicator/liveness.h"
#include "communicator/segment.h"
#include "core/team.h"

namespace ringtree {

/// Called now and then by waits that a signal may have to end; true: one came that must end them.
using InterruptCheck = bool (*)();
void set_interrupt_check(InterruptCheck check);
bool interrupted();

/// What a waiting rank wants to know besides the faults that concern everybody.
class Concern {
 public:
  virtual ~Concern() = default;

  /// "all_reduce #5 (float32 x 1024, sum, ring)".
  virtual std::string describe() const = 0;
  /// Raises a fault if a peer has made another call.
  virtual void check_agreement() const = 0;
  /// Whether `peer`, which is dead or has left, is still needed.
  virtual bool needs(int peer) const = 0;
  /// Raises the fault for a call that has taken too long, waiting for `peer` now.
  virtual void give_up(int peer, double seconds) const = 0;
  virtual void disagree(int peer, std::uint64_t sent, std::uint64_t expected) const = 0;
  /// Whom a wait is for that says it waits for `peer`.
  virtual int awaited(int peer) const { return peer; }
};

class Patience : public Waiter {
 public:
  Patience(Segment& segment, const Liveness& liveness, int rank, const std::atomic<double>& timeout_seconds);

  /// Starts the clock for one call, which may have a timeout of its own.
  void begin(const Concern& concern, double timeout_seconds = 0);

  std::uint32_t prepare() override;
  void rest(std::uint32_t ticket, int peer) override;
  void resume() noexcept override;
  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) override;
  void lose(int peer, int error) override;

 private:
  using Clock = std::chrono::steady_clock;

  void yield();
  void sleep(std::uint32_t ticket, int peer);
  /// Throws if waiting has become pointless.
  void look_around(int peer);
  void note_awaited(int peer);

  Segment* segment_;
  const Liveness* liveness_;
  const Concern* concern_ = nullptr;
  int rank_;
  const std::atomic<double>* timeout_seconds_;
  double own_timeout_seconds_ = 0;  ///< of the call, if it has one
  bool announced_ = false;
  bool knows_of_fault_ = false;
  bool notes_awaited_ = false;
  int rests_ = 0;
  Clock::time_point started_{};
  Clock::time_point next_look_{};
};

/// Whether so many ranks have to share this machine's cores.
bool is_oversubscribed(int world);

/// How often to look before resting: long enough to bridge what a peer on another core does, short enough
/// not to keep that peer off this core.
int spins_for(int world);

}  // namespace ringtree
