// One collective as the user asks for it, and the checks that need no other rank.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/call.h"
#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

struct Request {
  Collective collective;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;  ///< elements: of the whole buffer where all ranks have the same, of one share else
  DType dtype = DType::uint8;
  ReduceOp op = ReduceOp::sum;
  double factor = 1;  ///< of premul_sum
  int root = 0;
  std::string algorithm = "auto";
  double timeout_seconds = 0;                          ///< of this call alone; 0: the communicator's
  std::vector<std::size_t> in_counts{}, out_counts{};  ///< elements a rank, where shares may differ

  bool reduces() const { return ringtree::reduces(collective); }
  bool has_root() const { return ringtree::has_root(collective); }
  bool is_even() const { return in_counts.empty() && out_counts.empty(); }
  /// As the cost model counts them: see Priced.
  std::size_t priced_bytes(int world) const;
  const char* name() const { return kCollectiveNames[static_cast<std::size_t>(collective)]; }
};

/// Throws InvalidArgument.
void check(const Request& request, int rank, int world);

/// "rank 1, broadcast: root must be ..., got 7. Nothing was sent ...": the text of an InvalidArgument.
std::string refusal(int rank, const std::string& call, const std::string& why);

}  // namespace ringtree
