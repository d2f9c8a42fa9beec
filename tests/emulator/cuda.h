// The one function of CUDA's driver that ringtree uses, for code that includes <cuda.h>.
#pragma once

#include <cstddef>

using CUdeviceptr = unsigned long long;

enum CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_NOT_FOUND = 500,
};

/// The allocation that `address` lies in; `base` and `bytes` may be null. Also to be had by its name from
/// cudaGetDriverEntryPoint().
extern "C" CUresult cuMemGetAddressRange(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr address);
