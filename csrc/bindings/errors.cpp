#include "bindings/errors.h"

#include <array>
#include <string>
#include <vector>

#include "communicator/patience.h"
#include "core/errors.h"

namespace py = pybind11;

namespace ringtree {
namespace {

struct ErrorClass {
  const char* name;
  PyObject* second_base;
  const char* documentation;
};

// The classes live as long as the interpreter: a static destructor would run after it has gone.
std::vector<PyObject*>& classes() {
  static auto* const instance = new std::vector<PyObject*>();
  return *instance;
}

// pybind11 fixes the parameter's type. NOLINTNEXTLINE(performance-unnecessary-value-param)
void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const Error& error) {
    py::tuple ranks(error.ranks().size());
    for (std::size_t i = 0; i < error.ranks().size(); ++i) ranks[i] = error.ranks()[i];
    const py::handle type = classes()[static_cast<std::size_t>(error.kind())];
    py::object instance = type(error.what());
    instance.attr("ranks") = ranks;
    PyErr_SetObject(type.ptr(), instance.ptr());
  } catch (const Interrupted&) {
    // The signal handler has already set the exception (KeyboardInterrupt, or what the user's raises).
    if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
  }
}

}  // namespace

void set_python_error(const std::exception_ptr& error) {
  try {
    translate(error);
  } catch (const std::exception& other) {
    PyErr_SetString(PyExc_RuntimeError, other.what());
  }
}

void define_errors(py::module_& module) {
  const std::string prefix = "ringtree.";
  const py::object base = py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(
      "ringtree.RingtreeError", "What all errors of ringtree are.", nullptr, nullptr));
  base.attr("ranks") = py::tuple();
  module.attr("RingtreeError") = base;

  const auto list = std::to_array<ErrorClass>({
#define RINGTREE_ERROR(name, base, documentation) {#name, base, documentation},
#include "core/errors.def"
#undef RINGTREE_ERROR
  });
  for (const ErrorClass& error : list) {
    py::list bases;
    bases.append(base);
    if (error.second_base != nullptr) bases.append(py::handle(error.second_base));
    PyObject* type = PyErr_NewExceptionWithDoc((prefix + error.name).c_str(), error.documentation,
                                               py::tuple(bases).ptr(), nullptr);
    if (type == nullptr) throw py::error_already_set();
    module.attr(error.name) = py::reinterpret_borrow<py::object>(type);
    classes().push_back(type);
  }
  py::register_exception_translator(&translate);
}

}  // namespace ringtree
