// Which line of the program makes a call. The core does not know in which language that is written, so it
// asks whoever does.
#pragma once

#include <string>

namespace ringtree {

/// What answers; it is called in the thread that makes the call.
using CallSite = std::string (*)();
void set_call_site(CallSite site);

/// "/home/me/train.py:31"; nothing if nobody can tell.
std::string call_site();

}  // namespace ringtree
