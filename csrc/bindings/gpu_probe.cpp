#include "core/gpu_probe.h"

#include <cstddef>
#include <cstdint>

#include "bindings/gpu.h"

namespace py = pybind11;

namespace ringtree {
namespace {

using Address = std::uintptr_t;

GpuProbe& probe() { return gpu_library().probe(); }

void copy(Address to, Address from, std::size_t bytes, GpuStream stream) {
  probe().copy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes, stream);
}

}  // namespace

void define_gpu_probe(py::module_& module) {
  using py::arg;
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  module.def(
      "gpu_use", [](int device) { probe().use(device); }, arg("device"), Unlocked(),
      "Makes a GPU the calling thread's.");
  module.def("gpu_current", [] { return probe().current(); }, Unlocked(), "The calling thread's GPU.");
  module.def(
      "gpu_bus", [](int device) { return probe().bus(device); }, arg("device"), Unlocked(),
      "What tells a GPU from the others of its host.");
  module.def("gpu_enqueue_copy", &copy, arg("to"), arg("from_"), arg("nbytes"), arg("stream"), Unlocked(),
             "Enqueues a copy, and does not wait.");
  module.def(
      "gpu_synchronize", [](GpuStream stream) { probe().synchronize(stream); }, arg("stream"), Unlocked(),
      "Waits for what the stream holds.");
  module.def(
      "gpu_launch_empty", [](GpuStream stream) { probe().launch_empty(stream); }, arg("stream"), Unlocked(),
      "Enqueues a kernel that does nothing.");
  module.def(
      "gpu_round_trips", [](int count, GpuStream stream) { return probe().round_trips(count, stream); },
      arg("count"), arg("stream"), Unlocked(),
      "Seconds of a kernel in which two blocks answer each other's flag so many times.");
  module.def(
      "gpu_begin_recording", [](GpuStream stream) { probe().begin_recording(stream); }, arg("stream"),
      Unlocked(), "From now on this thread's calls on the stream become a graph, and do not run.");
  module.def(
      "gpu_end_recording", [](GpuStream stream) { return probe().end_recording(stream); }, arg("stream"),
      Unlocked());
  py::class_<GpuGraph>(module, "GpuGraph", "Recorded calls.")
      .def("replay", &GpuGraph::replay, arg("stream"), Unlocked());
  py::class_<GpuOwnStream>(module, "GpuStream", "A stream that waits for no other one.")
      .def(py::init([] {  // not Unlocked: as below
        const py::gil_scoped_release unlocked;
        return probe().stream();
      }))
      .def_property_readonly("handle", &GpuOwnStream::get, "What CUDA, and all else here, knows it by.");
  py::class_<GpuTimer>(module, "GpuTimer", "The time between two points of a stream, by the GPU's clock.")
      // Not Unlocked: that would hold while pybind11 enters the new object among all others, too.
      .def(py::init([] {
        const py::gil_scoped_release unlocked;
        return probe().timer();
      }))
      .def("start", &GpuTimer::start, arg("stream"), Unlocked())
      .def("stop", &GpuTimer::stop, arg("stream"), Unlocked())
      .def_property_readonly(
          "seconds", py::cpp_function([](const GpuTimer& self) { return self.seconds(); }, Unlocked()));
}

}  // namespace ringtree
