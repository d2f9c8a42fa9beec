// The functions of CUDA's driver that ringtree uses, for code that includes <cuda.h>.
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

enum CUpointer_attribute {
  CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
};

/// The number of the allocation, which no other one of this process ever has.
extern "C" CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address);
