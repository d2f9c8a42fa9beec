// The classes Communicator and Work of ringtree._core.
#pragma once

#include <pybind11/pybind11.h>

namespace ringtree {

void define_communicator(pybind11::module_& module);

}  // namespace ringtree
