#include "cuda/order.h"

#include <set>

#include "cuda/runtime.h"

namespace ringtree {
namespace {

struct Orders {
  std::mutex mutex;
  std::set<const StreamOrder*> all;
};

/// Never destroyed: arrays are freed until the process ends.
Orders& orders() {
  static Orders& living = *new Orders;
  return living;
}

}  // namespace

Event make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return {event, [](cudaEvent_t last) { cudaEventDestroy(last); }};
}

StreamOrder::StreamOrder() : behind_last_(make_event()) {
  const std::lock_guard lock(orders().mutex);
  orders().all.insert(this);
}

StreamOrder::~StreamOrder() {
  const std::lock_guard lock(orders().mutex);
  orders().all.erase(this);
}

void StreamOrder::enter(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (has_launched_ && (last_ != stream || stream == cudaStreamPerThread))  // another one in each thread
    check_cuda(cudaStreamWaitEvent(stream, behind_last_.get(), 0), "cudaStreamWaitEvent");
}

/// Somebody may have kept the event of the last call: it stays behind that one.
void StreamOrder::leave(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  last_ = stream;
  has_launched_ = true;
  if (behind_last_.use_count() > 1) behind_last_ = make_event();
  check_cuda(cudaEventRecord(behind_last_.get(), stream), "cudaEventRecord");
}

void StreamOrder::wait() const {
  if (has_launched_) cudaEventSynchronize(behind_last_.get());
}

std::vector<Event> StreamOrder::behind_all() {
  std::vector<Event> events;
  const std::lock_guard lock(orders().mutex);
  for (const StreamOrder* each : orders().all) {
    const std::lock_guard order_lock(each->mutex_);
    if (each->has_launched_) events.push_back(each->behind_last_);
  }
  return events;
}

}  // namespace ringtree
