// What every function of the emulated driver goes through. The runtime's last error is not its concern.
#pragma once

#include "cuda.h"
#include "runtime.h"

namespace ringtree_emulator {

/// An injected error comes with the runtime's number, which is the driver's.
template <class Body>
CUresult driver_api(const char* call, Body body) {
  const cudaError_t refused = enter(call);
  return refused != cudaSuccess ? static_cast<CUresult>(refused) : body();
}

/// For those that make or move mappings: as cudaMalloc(), they spoil a capture that forbids them.
template <class Body>
CUresult unsafe_driver_api(const char* call, Body body) {
  return driver_api(call, [&] {
    const cudaError_t refused = enter_unsafe();
    return refused != cudaSuccess ? static_cast<CUresult>(refused) : body();
  });
}

inline std::byte* pointer_of(CUdeviceptr address) {
  return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address));
}

}  // namespace ringtree_emulator
