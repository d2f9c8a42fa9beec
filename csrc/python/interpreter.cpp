#include "python/interpreter.h"

#include <pybind11/pybind11.h>

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

}  // namespace

void answer_the_core() {
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  set_interrupt_check(&signal_is_pending);
}

}  // namespace ringtree
