// From a call whose types are known only at run time to the algorithm's template: one adapter a collective,
// the same for all of its algorithms.
#pragma once

#include <cstddef>
#include <span>

#include "core/call.h"
#include "core/reduction.h"
#include "core/span.h"
#include "core/team.h"
#include "link/links.h"
#include "schedule/chunks.h"
#include "schedule/cost.h"

namespace ringtree {

/// The arguments of one collective. Where elements are only moved, counts and offsets are in bytes.
struct Task {
  const void* in;
  void* out;
  std::size_t in_count, out_count;
  std::size_t width;  ///< bytes of an element, for the collectives that compute
  Chunks in_chunks, out_chunks;
  int root;
  Reduction reduction;
};

struct HostEntry {
  Collective collective;
  const char* name;
  bool even_only;  ///< refuses shares of different sizes
  bool host_only;  ///< has no kernel
  Access access;   ///< to the peers' buffers
  Cost (*cost)(const Priced&);
  void (*run)(Solo&, Links&, const Task&);
};

/// All algorithms, in the order of csrc/CMakeLists.txt.
std::span<const HostEntry> catalogue();

template <class T>
Span<const T> input(const Task& task) {
  return {static_cast<const T*>(task.in), task.in_count};
}

template <class T>
Span<T> output(const Task& task) {
  return {static_cast<T*>(task.out), task.out_count};
}

/// Calls `body` with an element type of the task's width.
template <class Body>
void with_element(const Task& task, Body body) {
  switch (task.width) {
    case 1: return body(Element<1>{});
    case 2: return body(Element<2>{});
    case 4: return body(Element<4>{});
    default: return body(Element<8>{});
  }
}

template <Collective, class Algorithm>
struct Adapter;

template <class Algorithm>
struct Adapter<Collective::all_reduce, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    with_element(task, [&]<class T>(T) {
      Algorithm::run(team, links, input<T>(task), output<T>(task), task.reduction);
    });
  }
};

template <class Algorithm>
struct Adapter<Collective::reduce, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    with_element(task, [&]<class T>(T) {
      Algorithm::run(team, links, input<T>(task), output<T>(task), task.root, task.reduction);
    });
  }
};

template <class Algorithm>
struct Adapter<Collective::reduce_scatter, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    with_element(task, [&]<class T>(T) {
      Algorithm::run(team, links, input<T>(task), output<T>(task), task.in_chunks, task.reduction);
    });
  }
};

template <class Algorithm>
struct Adapter<Collective::broadcast, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    Algorithm::run(team, links, output<Element<1>>(task), task.root);
  }
};

template <class Algorithm>
struct Adapter<Collective::all_gather, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    Algorithm::run(team, links, input<Element<1>>(task), output<Element<1>>(task), task.out_chunks);
  }
};

template <class Algorithm>
struct Adapter<Collective::all_to_all, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    Algorithm::run(team, links, input<Element<1>>(task), task.in_chunks, output<Element<1>>(task),
                   task.out_chunks);
  }
};

template <class Algorithm>
struct Adapter<Collective::gather, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    Algorithm::run(team, links, input<Element<1>>(task), output<Element<1>>(task), task.out_chunks,
                   task.root);
  }
};

template <class Algorithm>
struct Adapter<Collective::scatter, Algorithm> {
  static void run(Solo& team, Links& links, const Task& task) {
    Algorithm::run(team, links, input<Element<1>>(task), output<Element<1>>(task), task.in_chunks, task.root);
  }
};

template <class Algorithm>
struct Adapter<Collective::barrier, Algorithm> {
  static void run(Solo& team, Links& links, const Task& /*task*/) { Algorithm::run(team, links); }
};

template <class Algorithm>
constexpr bool kIsEvenOnly = requires { Algorithm::kEvenOnly; };

/// What a generated unit registers for csrc/algorithms/<collective>_<name>.h.
#define RINGTREE_HOST_ENTRY(collective, name)                  \
  HostEntry host_entry_##collective##_##name() {               \
    using Algorithm = collective##_##name;                     \
    return {Collective::collective,                            \
            #name,                                             \
            kIsEvenOnly<Algorithm>,                            \
            kIsHostOnly<Algorithm>,                            \
            access_of<Algorithm>(),                            \
            &Algorithm::cost,                                  \
            &Adapter<Collective::collective, Algorithm>::run}; \
  }

}  // namespace ringtree
