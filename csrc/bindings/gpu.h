// GPUs, their memory, and virtual ranks; and what measurements want beside them.
#pragma once

#include <pybind11/pybind11.h>

namespace ringtree {

void define_gpu(pybind11::module_& module);
void define_gpu_probe(pybind11::module_& module);

}  // namespace ringtree
