// Memory that the process keeps for whoever next asks for as much, instead of giving it back to CUDA.
//
// To free is to wait for the device. Where ranks are threads, a kernel of another rank may be waiting there
// for the very call that this thread makes next.
#pragma once

#include <cstddef>

#include "cuda/runtime.h"

namespace ringtree {

/// Of the calling thread's device, of so many bytes and whatever content; null: nothing was kept that is not
/// in use any more.
std::byte* take_kept_on_device(std::size_t bytes);
std::byte* take_kept_on_host(std::size_t bytes);

/// Memory of `device`, or of the host, that nobody uses any more.
void keep(DeviceMemory<std::byte> memory, int device, std::size_t bytes) noexcept;
void keep(HostMemory<std::byte> memory, std::size_t bytes) noexcept;

/// An array that calls of communicators may still use, and what the calling thread's stream
/// (cudaStreamPerThread) holds so far. If that is being captured nobody gets it any more.
void keep_array(DeviceMemory<std::byte> memory, int device, std::size_t bytes) noexcept;

/// Gives back to CUDA what is not in use any more: a device is full. Returns how many blocks still are.
std::size_t free_kept_on_device();
std::size_t free_kept_on_host();

}  // namespace ringtree
