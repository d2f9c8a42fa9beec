#include "pool.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "runtime.h"

namespace ringtree_emulator {
namespace {

/// Kernels have small frames; those of sanitizers are larger.
constexpr std::size_t kStack = std::size_t{1} << 20U;

}  // namespace

Pool& pool() { return immortal<Pool>(); }

void Pool::start(std::size_t count, std::function<void(std::size_t)> job, std::function<void()> finished) {
  auto crowd = std::make_shared<Crowd>();
  crowd->job = std::move(job);
  crowd->finished = std::move(finished);
  crowd->running = count;
  std::vector<Worker*> workers;
  {
    const std::lock_guard lock(mutex_);
    while (workers.size() < count) {
      if (idle_.empty()) {
        workers.push_back(add_worker());
      } else {
        workers.push_back(idle_.back());
        idle_.pop_back();
      }
    }
  }
  for (std::size_t index = 0; index < count; ++index) {
    workers[index]->crowd = crowd;
    workers[index]->index = index;
  }
  // Only now, and without acquiring anything on the way: what the first has done by the time that the last is
  // woken must not look ordered before it, or ThreadSanitizer would miss their races.
  for (Worker* const worker : workers) {
    worker->orders.fetch_add(1, std::memory_order_release);  // pairs with: the acquire load in serve()
    wake_all(worker->orders);
  }
}

std::size_t Pool::threads() {
  const std::lock_guard lock(mutex_);
  return threads_;
}

Pool::Worker* Pool::add_worker() {
  struct Start {
    Pool* pool;
    Worker* worker;
  };
  auto* const worker = new Worker;  // both live until the process ends
  auto* const start = new Start{this, worker};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const auto run = [](void* argument) -> void* {
    const std::unique_ptr<Start> given(static_cast<Start*>(argument));
    given->pool->serve(*given->worker);
    return nullptr;
  };
  pthread_t thread{};
  if (pthread_create(&thread, &attributes, run, start) != 0) {
    std::fprintf(stderr, "ringtree emulator: no thread for a lane, beside %zu others\n", threads_);
    std::abort();
  }
  pthread_attr_destroy(&attributes);
  ++threads_;
  return worker;
}

void Pool::serve(Worker& self) {
  for (std::uint32_t seen = 0;; ++seen) {
    while (self.orders.load(std::memory_order_acquire) == seen) sleep_on(self.orders, seen);
    const std::shared_ptr<Crowd> crowd = std::move(self.crowd);
    crowd->job(self.index);
    {
      const std::lock_guard lock(mutex_);
      idle_.push_back(&self);
    }
    if (crowd->running.fetch_sub(1, std::memory_order_acq_rel) == 1) crowd->finished();
  }
}

}  // namespace ringtree_emulator
