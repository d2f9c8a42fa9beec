// What the driver tells of pointers, and its functions by name.
#include "driver.h"

#include <cstring>
#include <map>
#include <string>

#include "allocations.h"
#include "cuda_runtime_api.h"

namespace ringtree_emulator {
namespace {

template <class Function>
void* symbol(Function* function) {
  return reinterpret_cast<void*>(function);
}

void* function_called(const std::string& name) {
  static const std::map<std::string, void*> all{
      {"cuDevicePrimaryCtxGetState", symbol(&cuDevicePrimaryCtxGetState)},
      {"cuMemAddressFree", symbol(&cuMemAddressFree)},
      {"cuMemAddressReserve", symbol(&cuMemAddressReserve)},
      {"cuMemCreate", symbol(&cuMemCreate)},
      {"cuMemExportToShareableHandle", symbol(&cuMemExportToShareableHandle)},
      {"cuMemGetAddressRange", symbol(&cuMemGetAddressRange)},
      {"cuMemGetAllocationPropertiesFromHandle", symbol(&cuMemGetAllocationPropertiesFromHandle)},
      {"cuMemImportFromShareableHandle", symbol(&cuMemImportFromShareableHandle)},
      {"cuMemMap", symbol(&cuMemMap)},
      {"cuMemRelease", symbol(&cuMemRelease)},
      {"cuMemRetainAllocationHandle", symbol(&cuMemRetainAllocationHandle)},
      {"cuMemSetAccess", symbol(&cuMemSetAccess)},
      {"cuMemUnmap", symbol(&cuMemUnmap)},
      {"cuPointerGetAttribute", symbol(&cuPointerGetAttribute)},
  };
  const auto found = all.find(name);
  return found == all.end() ? nullptr : found->second;
}

}  // namespace
}  // namespace ringtree_emulator

using namespace ringtree_emulator;

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* is_active) {
  return driver_api(__func__, [&] {
    if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *is_active = has_begun(device) ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAddressRange(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr address) {
  return driver_api(__func__, [&] {
    const auto known = find_allocation(pointer_of(address));
    if (!known || known->is_of_host()) return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr) *base = reinterpret_cast<std::uintptr_t>(known->base);
    if (bytes != nullptr) *bytes = known->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  return driver_api(__func__, [&] {
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const auto known = find_allocation(pointer_of(address));
    if (!known || known->is_of_host()) return CUDA_ERROR_NOT_FOUND;
    const unsigned long long number = known->inode;
    const int is_capable = known->kind == Allocation::device ? 1 : 0;  // neither pools nor cuMemMap()
    switch (attribute) {
      case CU_POINTER_ATTRIBUTE_BUFFER_ID: std::memcpy(value, &number, sizeof number); break;
      case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        std::memcpy(value, &is_capable, sizeof is_capable);
        break;
      default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned /*version*/,
                                             unsigned long long /*flags*/,
                                             cudaDriverEntryPointQueryResult* result) {
  return api(__func__, [&] {
    *function = function_called(symbol);
    const bool found = *function != nullptr;
    if (result != nullptr) *result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return found || result != nullptr ? cudaSuccess : cudaErrorSymbolNotFound;
  });
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* result) {
  return cudaGetDriverEntryPointByVersion(symbol, function, CUDART_VERSION, flags, result);
}
