// ringtree._torch: makes process group backends for torch.distributed, and does nothing else.
#include <pybind11/chrono.h>
#include <pybind11/functional.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include <chrono>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "python/interpreter.h"
#include "torch/backend.h"

namespace py = pybind11;

namespace ringtree {
namespace {

using Preferred = std::vector<std::pair<std::string, std::vector<std::pair<std::size_t, std::string>>>>;
using Forced = std::vector<std::pair<std::string, std::string>>;
using Packets = std::vector<std::pair<std::string, std::size_t>>;
using Choose =
    std::function<std::tuple<Preferred, Preferred, Packets, Forced, std::string>(std::string, int)>;

/// c10d's, and what dist.split_group wants of them beside: a copy.
struct GroupOptions final : c10d::Backend::Options {
  using Options::Options;

  c10::intrusive_ptr<GroupOptions> copy() const {
    auto made = c10::make_intrusive<GroupOptions>(backend, timeout);
    made->group_name = group_name;
    made->global_ranks_in_group = global_ranks_in_group;
    return made;
  }
};

c10::intrusive_ptr<TorchBackend> make(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                      std::chrono::milliseconds timeout, const std::string& settings,
                                      const Choose& choose, const std::string& name) {
  const py::gil_scoped_release unlocked;
  TorchBackend::Configuration configuration{
      name, settings, [choose](const std::string& shared, int world) {
        auto [preferred, on_gpu, packets, forced, faults] = choose(shared, world);
        return TorchBackend::Choices{preferred, on_gpu, packets, forced, faults};
      }};
  auto options = c10::make_intrusive<GroupOptions>(name, timeout);
  return c10::make_intrusive<TorchBackend>(store, rank, size, std::move(options), std::move(configuration));
}

}  // namespace
}  // namespace ringtree

PYBIND11_MODULE(_torch, module) {
  module.attr("PYTORCH") = TORCH_VERSION;
  ringtree::answer_the_core();
  py::module_::import("torch.distributed");  // whose types the functions here take and return
  using ringtree::GroupOptions;
  using ringtree::TorchBackend;
  py::class_<GroupOptions, c10d::Backend::Options, c10::intrusive_ptr<GroupOptions>>(
      module, "Options", "What a group was made with.")
      .def("__copy__", &GroupOptions::copy)
      .def("__deepcopy__", [](const GroupOptions& self, const py::dict& /*memo*/) { return self.copy(); });
  py::class_<TorchBackend, c10d::Backend, c10::intrusive_ptr<TorchBackend>>(
      module, "ProcessGroupRingtree", "ringtree as a backend of torch.distributed.")
      .def_property_readonly("options", &TorchBackend::getBackendOptions)
      .def("get_error", &TorchBackend::getError, "The kind of error that has ended the group, if one has.")
      .def("_set_default_timeout", &TorchBackend::setTimeout, py::arg("timeout"));
  module.def(
      "create", &ringtree::make, py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"),
      py::arg("settings"), py::arg("choose"), py::arg("name"),
      "A process group backend; a collective. `choose(settings, size)` gets rank 0's settings and says "
      "what auto takes: rules, those for GPUs, forced algorithms, faults.");
}
