// The first fault of a communicator, told to every rank: each then throws the same story.
#pragma once

#include <string>
#include <vector>

#include "communicator/segment.h"
#include "core/errors.h"

namespace ringtree {

/// Records the fault, unless another one came first, and wakes everyone.
void raise_fault(Segment& segment, ErrorKind kind, const std::vector<int>& ranks, const std::string& text);

/// RankFailure: the processes of `ranks` have ended while the call that `where` describes needs them.
void raise_death(Segment& segment, const std::vector<int>& ranks, const std::string& where);

/// RankFailure: `ranks` have left while the call that `where` describes needs them.
void raise_departure(Segment& segment, const std::vector<int>& ranks, const std::string& where);

bool has_fault(Segment& segment);

/// Throws the recorded fault as seen by `rank` in the call that `where` describes.
[[noreturn]] void throw_fault(Segment& segment, int rank, const std::string& where);

/// The ranks that it names.
std::vector<int> ranks_of(const FaultRecord& fault, int world);

/// "rank 2", "ranks 0 and 3", "ranks 0, 2 and 3".
std::string list_ranks(const std::vector<int>& ranks);

/// "1.5 s".
std::string format_seconds(double seconds);

}  // namespace ringtree
