#include "communicator/injection.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <sstream>
#include <thread>

#include "communicator/patience.h"
#include "core/call.h"
#include "core/errors.h"

namespace ringtree {
namespace {

[[noreturn]] void refuse(const std::string& fault, const std::string& why) {
  throw InvalidArgument(
      "RINGTREE_FAULT: '" + fault + "': " + why +
      "; a fault is rank=2,op=all_reduce,seq=137,kind=kill with the kinds kill, stop, drop "
      "and delay:50ms (or us, s), op and seq may be left out, at=middle strikes a collective on its "
      "way, and ; separates faults");
}

std::uint64_t number_of(const std::string& fault, const std::string& name, const std::string& text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) refuse(fault, name + " must be a number, not '" + text + "'");
  return number;
}

std::chrono::microseconds duration_of(const std::string& fault, const std::string& text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::uint64_t number = number_of(fault, "the delay", text.substr(0, digits));
  const std::string unit = text.substr(digits);
  if (unit == "us") return std::chrono::microseconds(number);
  if (unit == "ms") return std::chrono::milliseconds(number);
  if (unit == "s") return std::chrono::seconds(number);
  refuse(fault, "the delay needs a unit: us, ms or s");
}

bool is_call(const std::string& op) {
  return op == "send" || op == "recv" ||
         std::find(kCollectiveNames.begin(), kCollectiveNames.end(), op) != kCollectiveNames.end();
}

void set_kind(Injection::Fault& fault, const std::string& text, const std::string& value) {
  if (value == "kill")
    fault.kind = Injection::Kind::kill;
  else if (value == "stop")
    fault.kind = Injection::Kind::stop;
  else if (value == "drop")
    fault.kind = Injection::Kind::drop;
  else if (value.starts_with("delay:")) {
    fault.kind = Injection::Kind::delay;
    fault.delay = duration_of(text, value.substr(value.find(':') + 1));
  } else {
    refuse(text, "there is no kind '" + value + "'");
  }
}

Injection::Fault parse_one(const std::string& text) {
  Injection::Fault fault;
  bool has_rank = false, has_kind = false;
  std::istringstream fields(text);
  for (std::string field; std::getline(fields, field, ',');) {
    const std::size_t equals = std::min(field.find('='), field.size());
    const std::string name = field.substr(0, equals);
    const std::string value = equals < field.size() ? field.substr(equals + 1) : "";
    if (name == "rank") {
      fault.rank = static_cast<int>(number_of(text, name, value));
      has_rank = true;
    } else if (name == "op") {
      if (!is_call(value)) refuse(text, "there is no call '" + value + "'");
      fault.op = value;
    } else if (name == "seq") {
      fault.sequence = number_of(text, name, value);
      if (fault.sequence == 0) refuse(text, "seq counts from 1");
    } else if (name == "at") {
      if (value != "middle") refuse(text, "at must be middle, not '" + value + "'");
      fault.in_the_middle = true;
    } else if (name == "kind") {
      set_kind(fault, text, value);
      has_kind = true;
    } else {
      refuse(text, "'" + field + "' says nothing");
    }
  }
  if (!has_rank) refuse(text, "rank is missing");
  if (!has_kind) refuse(text, "kind is missing");
  if (fault.in_the_middle && fault.kind == Injection::Kind::drop)
    refuse(text, "a call that has begun cannot be dropped");
  if (fault.in_the_middle && (fault.op == "send" || fault.op == "recv"))
    refuse(text, "at=middle is for collectives");
  return fault;
}

void sleep_for(std::chrono::microseconds duration) {
  constexpr std::chrono::microseconds kBetweenInterruptChecks{10'000};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + duration;
  while (Clock::now() < end) {
    std::this_thread::sleep_for(std::min<Clock::duration>(end - Clock::now(), kBetweenInterruptChecks));
    if (interrupted()) throw Interrupted();
  }
}

}  // namespace

std::vector<Injection::Fault> Injection::parse(const std::string& text) {
  std::vector<Fault> faults;
  std::istringstream list(text);
  for (std::string one; std::getline(list, one, ';');)
    if (!one.empty()) faults.push_back(parse_one(one));
  return faults;
}

Injection::Injection(const std::string& text, int rank, int world) {
  for (const Fault& fault : parse(text)) {
    if (fault.rank >= world)
      throw InvalidArgument("RINGTREE_FAULT: there is no rank " + std::to_string(fault.rank) +
                            " in a world of " + std::to_string(world));
    if (fault.rank == rank) faults_.push_back(fault);
  }
}

Injection::Fate Injection::call(const std::string& op) {
  std::vector<Fault> due;
  Fate fate;
  const bool is_message = op == "send" || op == "recv";
  {
    const std::lock_guard lock(mutex_);
    std::uint64_t& counter = op == "send" ? sends_ : op == "recv" ? recvs_ : collectives_;
    ++counter;
    std::erase_if(faults_, [&](const Fault& fault) {
      const bool is_due = (fault.op.empty() || fault.op == op) && !(fault.in_the_middle && is_message) &&
                          (fault.sequence == 0 || fault.sequence == counter);
      if (is_due) (fault.in_the_middle ? fate.middle : due).push_back(fault);
      return is_due && fault.sequence != 0;
    });
    fate.is_dropped =
        std::any_of(due.begin(), due.end(), [](const Fault& fault) { return fault.kind == Kind::drop; });
    if (fate.is_dropped) --counter;  // the next call has this one's number
  }
  for (const Fault& fault : due) strike(fault);
  return fate;
}

void Injection::pass_over() {
  const std::lock_guard lock(mutex_);
  ++collectives_;
}

void Injection::strike(const Fault& fault) {
  if (fault.kind == Kind::kill) kill(getpid(), SIGKILL);
  if (fault.kind == Kind::stop) kill(getpid(), SIGSTOP);
  if (fault.kind == Kind::delay) sleep_for(fault.delay);
}

}  // namespace ringtree
