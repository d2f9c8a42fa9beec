// How the ranks of a communicator come to share one segment.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transports/transport.h"

namespace ringtree {

/// Gives one string to every rank and returns all of them, in rank order.
using Exchange = std::function<std::vector<std::string>(const std::string&)>;

/// Rank 0 creates the memory, all others open it, and its name is forgotten once all have it. Collective;
/// one exchange. Throws InvalidArgument, TransportError or Timeout on every rank concerned.
std::unique_ptr<Memory> join(const std::string& transport, int rank, int world, double timeout_seconds,
                             const Exchange& exchange);

}  // namespace ringtree
