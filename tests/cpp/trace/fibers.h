// Many ranks in one thread: each is a fiber that runs until it waits for a word that is not there yet.
//
// The scheduler is the adversary: it may let a rank run as far as it can before anybody else moves, or hold
// it back at every signal. Whatever it does, the result must be the same.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "core/platform.h"

namespace ringtree::trace {

enum class Schedule {
  far_ahead,  ///< who runs goes on until it has to wait
  lockstep,   ///< everybody waits for the others at each signal
  random,     ///< sometimes one, sometimes the other, in an order drawn anew
};

class Fibers {
 public:
  Fibers(int count, Schedule schedule, std::function<void(int)> body)
      : schedule_(schedule), body_(std::move(body)), fibers_(static_cast<std::size_t>(count)) {
    for (Fiber& fiber : fibers_) {
      fiber.stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &main_;
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::enter), 0);
    }
  }

  /// Runs all to their end. Returns the fibers that wait for ever: none, if all is well.
  std::vector<int> run() {
    std::vector<int> order(fibers_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    for (;;) {
      if (schedule_ == Schedule::random) std::shuffle(order.begin(), order.end(), random_);
      bool moved = false;
      std::vector<int> waiting;
      for (const int i : order) {
        Fiber& fiber = fibers_[static_cast<std::size_t>(i)];
        if (fiber.ended) continue;
        if (fiber.ready && !fiber.ready()) {
          waiting.push_back(i);
          continue;
        }
        moved = true;
        running_ = i;
        current_ = this;
        swapcontext(&main_, &fiber.context);
      }
      if (!moved) return waiting;
    }
  }

  /// Called by a fiber: returns once `ready()` holds.
  template <class Ready>
  void await(Ready ready) {
    if (ready()) return;
    Fiber& fiber = running();
    fiber.ready = ready;
    swapcontext(&fiber.context, &main_);
    fiber.ready = nullptr;
  }

  /// Called by a fiber that has signalled something.
  void pause() {
    if (schedule_ == Schedule::far_ahead || (schedule_ == Schedule::random && random_() % 2 == 0)) return;
    Fiber& fiber = running();
    swapcontext(&fiber.context, &main_);
  }

 private:
  static constexpr std::size_t kStackBytes = 64 << 10;

  struct Fiber {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack;
    std::function<bool()> ready;
    bool ended = false;
  };

  Fiber& running() { return fibers_[static_cast<std::size_t>(running_)]; }

  static void enter() {
    Fibers& fibers = *current_;
    const int index = fibers.running_;
    fibers.body_(index);
    fibers.fibers_[static_cast<std::size_t>(index)].ended = true;
  }

  static inline Fibers* current_ = nullptr;

  Schedule schedule_;
  std::function<void(int)> body_;
  std::vector<Fiber> fibers_;
  ucontext_t main_{};
  int running_ = 0;
  std::mt19937 random_{12345};
};

}  // namespace ringtree::trace
