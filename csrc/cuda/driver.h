// Functions of CUDA's driver, by name: the library is not linked to it.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

namespace ringtree {

/// Null if the driver has no such function.
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return reinterpret_cast<Function*>(found);
}

}  // namespace ringtree
