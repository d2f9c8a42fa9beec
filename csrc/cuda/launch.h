// Kernels for CUDA's launch functions, from files that the host's compiler compiles.
#pragma once

#include <cuda_runtime.h>

namespace ringtree {

/// What those functions take: before CUDA 12.6 they take no pointer to a function from g++.
template <class Kernel>
auto launchable(Kernel* kernel) {
#if CUDART_VERSION < 12060
  return reinterpret_cast<const void*>(kernel);
#else
  return kernel;
#endif
}

}  // namespace ringtree
