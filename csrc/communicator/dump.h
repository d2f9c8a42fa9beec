// After an error each rank leaves what it knows of all ranks in a file, for `ringtree trace`.
#pragma once

#include <string>

#include "communicator/segment.h"

namespace ringtree {

/// Writes the snapshot of `rank` into the folder that RINGTREE_TRACE_DIR names, once a communicator. Returns
/// what the error should say about it; nothing without that variable.
std::string dump(const Segment& segment, int rank);

}  // namespace ringtree
