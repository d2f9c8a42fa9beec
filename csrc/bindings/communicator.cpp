#include "bindings/communicator.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "communicator/blocks.h"
#include "communicator/communicator.h"
#include "communicator/snapshot.h"
#include "core/errors.h"

namespace py = pybind11;

namespace ringtree {
namespace {

using Address = std::uintptr_t;
using Counts = std::vector<std::size_t>;
using Result = std::shared_ptr<Work>;
using Holder = std::unique_ptr<Communicator, CommunicatorDeleter>;

const void* readable(Address address) { return reinterpret_cast<const void*>(address); }
void* writable(Address address) { return reinterpret_cast<void*>(address); }

DType dtype_of(int code) {
  if (code < 0 || code >= static_cast<int>(kDTypeNames.size()))
    throw InvalidArgument("unknown dtype code " + std::to_string(code));
  return static_cast<DType>(code);
}

ReduceOp op_of(int code) {
  if (code < 0 || code >= static_cast<int>(kReduceOps))
    throw InvalidArgument("unknown op code " + std::to_string(code));
  return static_cast<ReduceOp>(code);
}

/// Keeps a Python object alive until C++ lets go of it, in whatever thread that happens.
std::shared_ptr<void> kept(const py::object& object) {
  return {object.inc_ref().ptr(), [](PyObject* pointer) {
            const py::gil_scoped_acquire gil;
            Py_DECREF(pointer);
          }};
}

/// Device and stream of arrays on a GPU.
using Place = std::optional<std::pair<int, std::uintptr_t>>;

/// On a GPU calls are asynchronous as everything else on their stream is: there is nothing to wait for here.
template <class Enqueue>
Result enqueue(bool async, Enqueue enqueue_call) {
  const py::gil_scoped_release unlocked;
  enqueue_call();
  if (!async) return nullptr;
  auto work = std::make_shared<Work>("", nullptr);
  work->finish(nullptr);
  return work;
}

Result run(Communicator& self, const Request& request, bool async, const py::object& keep,
           const Place& place = std::nullopt) {
  if (place) {
    const GpuPlace where{place->first, place->second};
    return enqueue(async, [&] { self.launch(request, where); });
  }
  std::shared_ptr<void> owner = async ? kept(keep) : nullptr;
  const py::gil_scoped_release unlocked;
  return self.run(request, async, std::move(owner));
}

Result exchange(Communicator& self, const std::vector<Letter>& letters, bool async, const py::object& keep,
                const Place& place) {
  if (place) {
    const GpuPlace where{place->first, place->second};
    return enqueue(async, [&] { self.exchange_on_gpu(letters, where); });
  }
  std::shared_ptr<void> owner = async ? kept(keep) : nullptr;
  const py::gil_scoped_release unlocked;
  return self.exchange(letters, async, std::move(owner));
}

/// Equal counts become one share size, for which more algorithms exist.
void set_shares(Request& request, Counts Request::* counts, Counts given) {
  const bool even =
      std::all_of(given.begin(), given.end(), [&](std::size_t c) { return c == given.front(); });
  if (even && !given.empty())
    request.count = given.front();
  else
    request.*counts = std::move(given);
}

Result all_reduce(Communicator& self, Address in, Address out, std::size_t count, int dtype, int op,
                  double factor, std::string algorithm, bool async, const py::object& keep,
                  const Place& place) {
  Request request{Collective::all_reduce, readable(in), writable(out), count, dtype_of(dtype)};
  request.op = op_of(op);
  request.factor = factor;
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result reduce(Communicator& self, Address in, Address out, std::size_t count, int dtype, int op,
              double factor, int root, std::string algorithm, bool async, const py::object& keep,
              const Place& place) {
  Request request{Collective::reduce, readable(in), writable(out), count, dtype_of(dtype)};
  request.op = op_of(op);
  request.factor = factor;
  request.root = root;
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result broadcast(Communicator& self, Address data, std::size_t count, int dtype, int root,
                 std::string algorithm, bool async, const py::object& keep, const Place& place) {
  Request request{Collective::broadcast, readable(data), writable(data), count, dtype_of(dtype)};
  request.root = root;
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result all_gather(Communicator& self, Address in, Address out, Counts counts, int dtype,
                  std::string algorithm, bool async, const py::object& keep, const Place& place) {
  Request request{Collective::all_gather, readable(in), writable(out), 0, dtype_of(dtype)};
  set_shares(request, &Request::out_counts, std::move(counts));
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result reduce_scatter(Communicator& self, Address in, Address out, Counts counts, int dtype, int op,
                      double factor, std::string algorithm, bool async, const py::object& keep,
                      const Place& place) {
  Request request{Collective::reduce_scatter, readable(in), writable(out), 0, dtype_of(dtype)};
  set_shares(request, &Request::in_counts, std::move(counts));
  request.op = op_of(op);
  request.factor = factor;
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result all_to_all(Communicator& self, Address in, Address out, std::size_t count, int dtype,
                  std::string algorithm, bool async, const py::object& keep, const Place& place) {
  Request request{Collective::all_to_all, readable(in), writable(out), count, dtype_of(dtype)};
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result all_to_all_v(Communicator& self, Address in, Address out, Counts in_counts, Counts out_counts,
                    int dtype, std::string algorithm, bool async, const py::object& keep,
                    const Place& place) {
  Request request{Collective::all_to_all, readable(in), writable(out), 0, dtype_of(dtype)};
  request.in_counts = std::move(in_counts);
  request.out_counts = std::move(out_counts);
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

template <Collective kCollective>
Result rooted_shares(Communicator& self, Address in, Address out, std::size_t count, int dtype, int root,
                     std::string algorithm, bool async, const py::object& keep, const Place& place) {
  Request request{kCollective, readable(in), writable(out), count, dtype_of(dtype)};
  request.root = root;
  request.algorithm = std::move(algorithm);
  return run(self, request, async, keep, place);
}

Result barrier(Communicator& self, std::string algorithm, bool async) {
  Request request{Collective::barrier};
  request.algorithm = std::move(algorithm);
  return run(self, request, async, py::none());
}

Result send(Communicator& self, Address data, std::size_t count, int dtype, int to, bool async,
            const py::object& keep, const Place& place) {
  return exchange(self, {{true, to, static_cast<std::byte*>(writable(data)), count, dtype_of(dtype)}}, async,
                  keep, place);
}

Result recv(Communicator& self, Address data, std::size_t count, int dtype, int source, bool async,
            const py::object& keep, const Place& place) {
  return exchange(self, {{false, source, static_cast<std::byte*>(writable(data)), count, dtype_of(dtype)}},
                  async, keep, place);
}

Result sendrecv(Communicator& self, Address in, std::size_t in_count, int to, Address out,
                std::size_t out_count, int source, int dtype, bool async, const py::object& keep,
                const Place& place) {
  return exchange(self,
                  {{true, to, static_cast<std::byte*>(writable(in)), in_count, dtype_of(dtype)},
                   {false, source, static_cast<std::byte*>(writable(out)), out_count, dtype_of(dtype)}},
                  async, keep, place);
}

std::vector<py::bytes> exchange_with(Communicator& self, const std::vector<int>& members,
                                     const std::string& own) {
  const std::vector<std::string> all = [&] {
    const py::gil_scoped_release unlocked;
    return self.exchange_with(members, own);
  }();
  return {all.begin(), all.end()};
}

Holder make(const std::string& transport, int rank, int world, double timeout, const py::function& exchange) {
  const auto translated = [&exchange](const std::string& own) {
    const py::gil_scoped_acquire gil;
    std::vector<std::string> all;
    for (const py::handle payload : exchange(py::bytes(own))) all.push_back(payload.cast<std::string>());
    return all;
  };
  const py::gil_scoped_release unlocked;
  return Holder(new Communicator(transport, rank, world, timeout, translated));
}

/// Memory that peers can map, as a writable buffer of bytes.
struct Block {
  std::shared_ptr<std::byte> data;
  std::size_t bytes;
};

Block allocate(std::size_t bytes) {
  const py::gil_scoped_release unlocked;
  return {allocate_block(bytes), bytes};
}

void define_blocks(py::module_& module) {
  py::class_<Block>(module, "Block", py::buffer_protocol(), "Memory that peers can map.")
      .def_buffer([](Block& block) {
        return py::buffer_info(reinterpret_cast<std::uint8_t*>(block.data.get()),
                               static_cast<py::ssize_t>(block.bytes));
      });
  module.def("allocate", &allocate, py::arg("nbytes"), "A block of so many bytes, of whatever content.");
}

}  // namespace

void define_communicator(py::module_& module) {
  using py::arg;
  define_blocks(module);
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  module.def("observe", &observe, arg("pid"), Unlocked(),
             "The snapshots of the communicators that a process is in, taken from outside.");

  py::class_<Work, Result>(module, "Work", "A call that may still be under way.")
      .def("wait", &Work::wait, arg("timeout") = std::nullopt, Unlocked())
      .def("done", &Work::done, Unlocked());

  py::class_<Communicator, Holder>(module, "Communicator",
                                   "What a rank holds: its links and the order of its calls.")
      .def(py::init(&make), arg("transport"), arg("rank"), arg("world"), arg("timeout"), arg("exchange"))
      .def_property_readonly("rank", &Communicator::rank)
      .def_property_readonly("world", &Communicator::world)
      .def_property_readonly("timeout", &Communicator::timeout_seconds)
      .def_property_readonly("transport", &Communicator::transport)
      .def_property_readonly("closed", &Communicator::closed)
      .def("all_reduce", &all_reduce, arg("in_"), arg("out"), arg("count"), arg("dtype"), arg("op"),
           arg("factor"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("reduce", &reduce, arg("in_"), arg("out"), arg("count"), arg("dtype"), arg("op"), arg("factor"),
           arg("root"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("broadcast", &broadcast, arg("data"), arg("count"), arg("dtype"), arg("root"), arg("algorithm"),
           arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("all_gather", &all_gather, arg("in_"), arg("out"), arg("counts"), arg("dtype"), arg("algorithm"),
           arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("reduce_scatter", &reduce_scatter, arg("in_"), arg("out"), arg("counts"), arg("dtype"), arg("op"),
           arg("factor"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("all_to_all", &all_to_all, arg("in_"), arg("out"), arg("count"), arg("dtype"), arg("algorithm"),
           arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("all_to_all_v", &all_to_all_v, arg("in_"), arg("out"), arg("in_counts"), arg("out_counts"),
           arg("dtype"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("gather", &rooted_shares<Collective::gather>, arg("in_"), arg("out"), arg("count"), arg("dtype"),
           arg("root"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("scatter", &rooted_shares<Collective::scatter>, arg("in_"), arg("out"), arg("count"), arg("dtype"),
           arg("root"), arg("algorithm"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("barrier", &barrier, arg("algorithm"), arg("async_op"))
      .def("send", &send, arg("data"), arg("count"), arg("dtype"), arg("to"), arg("async_op"), arg("keep"),
           arg("place") = std::nullopt)
      .def("recv", &recv, arg("data"), arg("count"), arg("dtype"), arg("source"), arg("async_op"),
           arg("keep"), arg("place") = std::nullopt)
      .def("sendrecv", &sendrecv, arg("in_"), arg("in_count"), arg("to"), arg("out"), arg("out_count"),
           arg("source"), arg("dtype"), arg("async_op"), arg("keep"), arg("place") = std::nullopt)
      .def("chosen", &Communicator::chosen, arg("collective"), arg("nbytes"))
      .def("chosen_on_gpu", &Communicator::chosen_on_gpu, arg("collective"), arg("nbytes"))
      .def("staged", &Communicator::staged)
      .def("protocol", &Communicator::protocol)
      .def("channels", &Communicator::channels)
      .def("prefer", &Communicator::prefer, arg("collective"), arg("rules"))
      .def("prefer_on_gpu", &Communicator::prefer_on_gpu, arg("collective"), arg("rules"))
      .def("packets_on_gpu", &Communicator::packets_on_gpu, arg("collective"), arg("nbytes"))
      .def("force", &Communicator::force, arg("collective"), arg("algorithm"))
      .def("inject", &Communicator::inject, arg("faults"))
      .def("snapshot", &Communicator::snapshot, Unlocked())
      .def(
          "survivors", [](Communicator& self) { return self.survivors(); }, Unlocked())
      .def("exchange_with", &exchange_with, arg("members"), arg("own"))
      .def("synchronize", &Communicator::synchronize, Unlocked())
      .def("abort", &Communicator::abort, arg("reason"), Unlocked())
      .def("close", &Communicator::close, Unlocked());
}

}  // namespace ringtree
