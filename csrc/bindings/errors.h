// Python's exception classes for the errors of core/errors.def.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>

namespace ringtree {

/// Creates the classes and translates every C++ error into its class, with `.ranks` set.
void define_errors(pybind11::module_& module);

/// Makes `error` the Python error of this thread.
void set_python_error(const std::exception_ptr& error);

}  // namespace ringtree
