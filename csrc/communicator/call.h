// One collective on its way: its header, its arguments, and what its waits worry about.
#pragma once

#include <string>
#include <vector>

#include "communicator/fault.h"
#include "communicator/host_entry.h"
#include "communicator/patience.h"
#include "communicator/segment.h"
#include "core/call.h"

namespace ringtree {

/// "all_reduce #5 (float32 x 1024, sum, ring)".
std::string describe(const CallHeader& call);

/// The worries of a rank inside a collective. Of the calls before `first_open`, all ranks are known to have
/// made the same.
class CallConcern : public Concern {
 public:
  CallConcern(Segment& segment, int rank, const CallHeader& call, std::uint64_t first_open)
      : segment_(&segment), rank_(rank), call_(call), first_open_(first_open) {}

  std::string describe() const override { return ringtree::describe(call_); }
  void check_agreement() const override;
  bool needs(int peer) const override;
  void give_up(int peer, double seconds) const override;
  void disagree(int peer, std::uint64_t sent, std::uint64_t expected) const override;

 private:
  void check_agreement_with(int peer) const;
  void compare(const CallHeader& ours, const CallHeader& theirs, int peer) const;

  Segment* segment_;
  int rank_;
  CallHeader call_;
  std::uint64_t first_open_;
};

}  // namespace ringtree
