// GPUs, their memory, and virtual ranks.
#pragma once

#include <pybind11/pybind11.h>

namespace ringtree {

void define_gpu(pybind11::module_& module);

}  // namespace ringtree
