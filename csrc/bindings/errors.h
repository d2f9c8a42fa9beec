// Python's exception classes for the errors of core/errors.def.
#pragma once

#include <pybind11/pybind11.h>

namespace ringtree {

/// Creates the classes and translates every C++ error into its class, with `.ranks` set.
void define_errors(pybind11::module_& module);

}  // namespace ringtree
