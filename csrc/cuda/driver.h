// Functions of CUDA's driver, by name: the library is not linked to it.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace ringtree {

/// The newer of the two functions says from which version of CUDA the driver's is meant.
inline cudaError_t find_driver_function(const char* name, void** found) {
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION < 12050
  return cudaGetDriverEntryPoint(name, found, cudaEnableDefault, &result);
#else
  return cudaGetDriverEntryPointByVersion(name, found, 12000, cudaEnableDefault, &result);
#endif
}

/// Null if the driver has no such function.
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  if (find_driver_function(name, &found) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return reinterpret_cast<Function*>(found);
}

}  // namespace ringtree
