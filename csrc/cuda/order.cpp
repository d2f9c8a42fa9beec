#include "cuda/order.h"

#include <algorithm>
#include <set>
#include <utility>

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

/// No other stream of this process ever has it. A handle is given again once its stream has been destroyed,
/// which may be before its work is over.
unsigned long long number_of(cudaStream_t stream) {
  unsigned long long number = 0;
  check_cuda(cudaStreamGetId(stream, &number), "cudaStreamGetId");
  return number;
}

}  // namespace

Event make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return {event, [](cudaEvent_t last) { cudaEventDestroy(last); }};
}

bool is_over(const Event& event) {
  if (cudaEventQuery(event.get()) == cudaSuccess) return true;
  cudaGetLastError();  // "not ready" is no error
  return false;
}

StreamOrder::StreamOrder() {
  const std::lock_guard lock(orders().mutex);
  orders().all.insert(this);
}

StreamOrder::~StreamOrder() {
  const std::lock_guard lock(orders().mutex);
  orders().all.erase(this);
}

void StreamOrder::enter(cudaStream_t stream) {
  if (behind_last_ &&
      (last_ != number_of(stream) || stream == cudaStreamPerThread))  // which is another one in each thread
    check_cuda(cudaStreamWaitEvent(stream, behind_last_.get(), 0), "cudaStreamWaitEvent");
}

/// Not under the lock, which others wait for who free an array: CUDA may wait here until kernels are over.
void StreamOrder::leave(cudaStream_t stream) {
  last_ = number_of(stream);
  Event event = unshared();
  if (!event) event = make_event();
  check_cuda(cudaEventRecord(event.get(), stream), "cudaEventRecord");
  const std::lock_guard lock(mutex_);
  behind_last_ = std::move(event);
}

/// The event of the last call, to be used again; null if somebody has kept it: it stays behind that call.
Event StreamOrder::unshared() const {
  const std::lock_guard lock(mutex_);
  return behind_last_.use_count() == 1 ? behind_last_ : nullptr;
}

void StreamOrder::wait() const {
  if (behind_last_) cudaEventSynchronize(behind_last_.get());
}

std::vector<Event> StreamOrder::behind_all() {
  std::vector<Event> events;
  const std::lock_guard lock(orders().mutex);
  for (const StreamOrder* each : orders().all) {
    const std::lock_guard order_lock(each->mutex_);
    if (each->behind_last_) events.push_back(each->behind_last_);
  }
  return events;
}

bool StreamOrder::is_over_everywhere() {
  const BesideCapture allowed;
  const std::vector<Event> events = behind_all();
  return std::all_of(events.begin(), events.end(), &is_over);
}

}  // namespace ringtree
