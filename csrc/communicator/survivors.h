// After a failure: who goes on, and how they meet. The old segment, which no call uses any more, is where.
//
//     agree      each rank says that it has come, and waits until every other has come, has left or is dead;
//                the first to see that proposes, and the one whose proposal is first taken decides for all
//     exchange   one string of each survivor to all of them: what a new communicator needs to be opened
//
// A survivor that dies on the way fails the round, for all alike; the rest go through another one.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "communicator/liveness.h"
#include "communicator/segment.h"

namespace ringtree {

class Survivors {
 public:
  Survivors(Segment& segment, const Liveness& liveness, int rank, const std::atomic<double>& timeout_seconds)
      : segment_(&segment), liveness_(&liveness), rank_(rank), timeout_seconds_(&timeout_seconds) {}

  /// The ranks that go on, ascending; this one is among them. Starts a round. Throws Timeout, naming who is
  /// neither here nor gone, RankFailure if the others went on without this rank.
  std::vector<int> agree(const std::vector<int>& without);

  /// What each of `members` gave, in their order. Throws RankFailure if one died, Timeout, InvalidArgument.
  std::vector<std::string> exchange(const std::vector<int>& members, const std::string& own);

 private:
  std::vector<int> decided() const;
  void propose(const std::vector<int>& present);
  template <class Look>
  void wait(const char* what, Look look) const;

  Segment* segment_;
  const Liveness* liveness_;
  int rank_;
  const std::atomic<double>* timeout_seconds_;
  std::uint64_t round_ = 0;
};

}  // namespace ringtree
