// Ranks as threads of the test: the C++ counterpart of rt.run_local.
#pragma once

#include <barrier>
#include <exception>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "communicator/communicator.h"

namespace ringtree {

/// Runs `body` on every rank; returns each rank's error message, empty where there was none.
inline std::vector<std::string> run_local(int world, const std::function<void(Communicator&)>& body,
                                          double timeout_seconds = 30,
                                          const std::string& transport = "threads") {
  const auto ranks = static_cast<std::size_t>(world);
  std::vector<std::string> payloads(ranks), errors(ranks);
  std::barrier meeting(world);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      const auto exchange = [&, rank](const std::string& payload) {
        payloads[static_cast<std::size_t>(rank)] = payload;
        meeting.arrive_and_wait();
        return payloads;
      };
      try {
        Communicator communicator(transport, rank, world, timeout_seconds, exchange);
        body(communicator);
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// Counts a latch down on the way out, error or not.
class Countdown {
 public:
  explicit Countdown(std::latch& latch) : latch_(&latch) {}
  Countdown(const Countdown&) = delete;
  Countdown& operator=(const Countdown&) = delete;
  ~Countdown() { latch_->count_down(); }

 private:
  std::latch* latch_;
};

/// For bodies that must succeed everywhere.
inline std::vector<std::string> no_errors(int world) {
  return std::vector<std::string>(static_cast<std::size_t>(world));
}

}  // namespace ringtree
