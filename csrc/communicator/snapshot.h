// What all ranks of a communicator do at this moment, as JSON: for dumps, and for those who look from
// outside. docs/debugging.md describes the fields.
#pragma once

#include <string>
#include <vector>

#include "communicator/segment.h"

namespace ringtree {

/// `rank`: who looks; -1 from outside.
std::string snapshot(const Segment& segment, int rank);

/// The snapshots of the communicators that the process `pid` is in, taken from outside. Throws TransportError
/// if there is no such process, or its memory may not be read, or another ringtree made it.
std::vector<std::string> observe(int pid);

}  // namespace ringtree
