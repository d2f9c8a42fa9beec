#include "communicator/call_site.h"

#include <atomic>

namespace ringtree {
namespace {

std::atomic<CallSite> asked{nullptr};

}  // namespace

void set_call_site(CallSite site) { asked = site; }

std::string call_site() {
  const CallSite site = asked;
  return site == nullptr ? "" : site();
}

}  // namespace ringtree
