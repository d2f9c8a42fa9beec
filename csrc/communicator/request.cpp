#include "communicator/request.h"

#include <numeric>

#include "core/errors.h"

namespace ringtree {

std::string refusal(int rank, const std::string& call, const std::string& why) {
  return "rank " + std::to_string(rank) + ", " + call + ": " + why +
         ". Nothing was sent and the communicator stays usable.";
}

void check(const Request& request, int rank, int world) {
  const auto refuse = [&](const std::string& why) {
    throw InvalidArgument(refusal(rank, request.name(), why));
  };
  if (request.has_root() && (request.root < 0 || request.root >= world))
    refuse("root must be a rank of this world, 0 to " + std::to_string(world - 1) + ", not " +
           std::to_string(request.root));
  if (request.reduces() && !supports(request.op, request.dtype))
    refuse(std::string("op ") + name_of(request.op) + " does not exist for " + name_of(request.dtype) + ": " +
           (is_float(request.dtype) ? "band, bor and bxor need integers or bool"
                                    : "avg and premul_sum need a float type"));
  for (const auto* counts : {&request.in_counts, &request.out_counts})
    if (!counts->empty() && counts->size() != static_cast<std::size_t>(world))
      refuse("counts must have one entry for each of the " + std::to_string(world) + " ranks, not " +
             std::to_string(counts->size()));
}

std::size_t Request::priced_bytes(int world) const {
  const std::size_t bytes = count * size_of(dtype), ranks = static_cast<std::size_t>(world);
  switch (collective) {
    case Collective::all_gather:
    case Collective::reduce_scatter: {
      const auto& counts = collective == Collective::all_gather ? out_counts : in_counts;
      return is_even() ? bytes * ranks
                       : std::accumulate(counts.begin(), counts.end(), std::size_t{0}) * size_of(dtype);
    }
    case Collective::all_to_all: return bytes * ranks * ranks;
    case Collective::gather:
    case Collective::scatter: return bytes * ranks;
    default: return bytes;
  }
}

}  // namespace ringtree
