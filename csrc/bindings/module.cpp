// ringtree._core: translates between Python and the communicator, and does nothing else.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bindings/communicator.h"
#include "bindings/errors.h"
#include "bindings/gpu.h"
#include "bindings/quick.h"
#include "communicator/choice.h"
#include "core/dtype.h"
#include "core/op.h"
#include "core/reduction.h"
#include "python/interpreter.h"
#include "transports/transport.h"

namespace py = pybind11;

namespace ringtree {
namespace {

template <class Names>
py::tuple to_tuple(const Names& names) {
  py::list list;
  for (const auto& name : names) list.append(name);
  return py::tuple(list);
}

/// Where the memory of a C-contiguous buffer begins. Raises BufferError if it is not, or is read-only.
std::uintptr_t address(const py::handle& buffer, bool writable) {
  Py_buffer view;
  if (PyObject_GetBuffer(buffer.ptr(), &view, PyBUF_ND | (writable ? PyBUF_WRITABLE : 0)) != 0)
    throw py::error_already_set();
  const auto begin = reinterpret_cast<std::uintptr_t>(view.buf);
  PyBuffer_Release(&view);  // the caller holds the object; NumPy's memory does not move
  return begin;
}

void define_catalogue(py::module_& module) {
  module.attr("DTYPES") = to_tuple(kDTypeNames);
  py::list sizes;
  for (std::size_t i = 0; i < kDTypes; ++i) sizes.append(size_of(static_cast<DType>(i)));
  module.attr("ITEMSIZES") = py::tuple(sizes);
  module.attr("OPS") = to_tuple(kReduceOpNames);
  module.attr("COLLECTIVES") = to_tuple(kCollectiveNames);
  std::vector<std::string> names;
  for (const TransportEntry& entry : transports()) names.emplace_back(entry.name);
  module.attr("TRANSPORTS") = to_tuple(names);

  module.def(
      "algorithms", [](const std::string& collective) { return algorithms_of(find_collective(collective)); },
      py::arg("collective"), "Names of the algorithms of a collective.");
  module.def("address", &address, py::arg("buffer"), py::arg("writable"),
             "The address of a contiguous buffer's memory.");
  module.def("simd", &simd_name, "The instruction set of the reduction loops.");

  py::class_<Cost>(module, "Cost", "What an algorithm declares about one call.")
      .def_readonly("steps", &Cost::steps)
      .def_readonly("bytes_per_link", &Cost::bytes_per_link)
      .def_readonly("moved_bytes", &Cost::moved_bytes);
  module.def(
      "cost",
      [](const std::string& collective, const std::string& algorithm, int world, std::size_t nbytes,
         std::optional<double> piece_bytes) {
        const HostEntry& entry = catalogue()[find_algorithm(find_collective(collective), algorithm)];
        Priced call = priced(LinkLayout::of(world), nbytes);
        call.piece_bytes = piece_bytes.value_or(call.piece_bytes);
        return entry.cost(call);
      },
      py::arg("collective"), py::arg("algorithm"), py::arg("world"), py::arg("nbytes"),
      py::arg("piece_bytes") = py::none());
  module.def(
      "step_constants",
      [](bool oversubscribed) {
        const Constants& constants = constants_of(oversubscribed);
        return py::make_tuple(constants.step_us, constants.bytes_per_us);
      },
      py::arg("oversubscribed"));
}

}  // namespace
}  // namespace ringtree

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of ringtree.";
  module.attr("__version__") = RINGTREE_VERSION;
  ringtree::answer_the_core();
  ringtree::define_errors(module);
  ringtree::define_catalogue(module);
  ringtree::define_communicator(module);
  ringtree::define_quick(module);
  ringtree::define_gpu(module);
  ringtree::define_gpu_probe(module);
}
