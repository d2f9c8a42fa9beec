#include "torch/errors.h"

#include <c10/util/Exception.h>
#include <pybind11/pybind11.h>

#include <string>

#include "core/errors.h"

namespace py = pybind11;

namespace ringtree {

std::exception_ptr for_torch(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const InvalidArgument& refused) {
    return std::make_exception_ptr(c10::ValueError(std::string(refused.what())));
  } catch (const Error& failed) {
    const char* in = failed.kind() == ErrorKind::Timeout ? ": Timed out in " : ": ";  // programs look for it
    return std::make_exception_ptr(
        c10::DistBackendError(std::string(name_of(failed.kind())) + in + failed.what()));
  } catch (const Interrupted&) {
    const py::gil_scoped_acquire gil;
    // The signal's handler has already set the exception.
    if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
    try {
      throw py::error_already_set();
    } catch (...) {
      return std::current_exception();
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace ringtree
