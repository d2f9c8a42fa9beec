#include "python/interpreter.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "communicator/call_site.h"
#include "communicator/patience.h"

namespace py = pybind11;

namespace ringtree {
namespace {

/// Python handles signals in the main thread only. Looked up at import: a wait must not ask for the GIL,
/// which a long computation of this process may hold.
unsigned long main_thread = 0;

/// Runs in waits, without the GIL.
bool signal_is_pending() {
  if (PyThread_get_thread_ident() != main_thread) return false;
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

/// Whether a module stands between the program and the core: ours, PyTorch's, and the one whose frame lies
/// under each of their context managers.
bool is_between(std::string_view module) {
  constexpr std::array<std::string_view, 3> kPackages{"ringtree", "torch", "contextlib"};
  const std::string_view package = module.substr(0, module.find('.'));
  return std::find(kPackages.begin(), kPackages.end(), package) != kPackages.end();
}

/// The innermost line of the program itself. Nothing in a thread that Python does not know, such as those of
/// PyTorch's that run the backward pass on a GPU.
std::string line_of_the_program() {
  if (Py_IsInitialized() == 0) return "";
  const py::gil_scoped_acquire gil;
  try {
    auto frame = py::reinterpret_steal<py::object>(
        reinterpret_cast<PyObject*>(PyThreadState_GetFrame(PyThreadState_Get())));
    for (; frame && !frame.is_none(); frame = frame.attr("f_back")) {
      const auto module = py::str(frame.attr("f_globals").attr("get")("__name__", "")).cast<std::string>();
      if (is_between(module)) continue;
      return frame.attr("f_code").attr("co_filename").cast<std::string>() + ":" +
             py::str(frame.attr("f_lineno")).cast<std::string>();
    }
    return "";
  } catch (const py::error_already_set&) {  // a file's name that is not Unicode
    return "";
  }
}

}  // namespace

void answer_the_core() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  set_interrupt_check(&signal_is_pending);
  set_call_site(&line_of_the_program);
}

}  // namespace ringtree
