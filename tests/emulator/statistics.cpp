#include <tuple>

#include "allocations.h"
#include "execution.h"
#include "graph.h"
#include "stream.h"

namespace ringtree_emulator {

Statistics statistics() {
  Statistics all{};
  count_execution(all);
  count_allocations(all);
  count_virtual_memory(all);
  count_streams(all);
  count_graphs(all);
  return all;
}

bool Statistics::same_lives(const Statistics& other) const {
  const auto lives = [](const Statistics& s) {
    return std::tie(s.allocations, s.allocated_bytes, s.host_allocations, s.host_allocated_bytes,
                    s.registrations, s.opened_handles, s.memory_handles, s.reservations, s.mapped_chunks,
                    s.streams, s.events, s.graphs, s.executables);
  };
  return lives(*this) == lives(other);
}

}  // namespace ringtree_emulator
