// What tests see of the emulated devices beside CUDA's own functions: what they are, what lives, what fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime_types.h"

namespace ringtree_emulator {

/// Small, because every lane is a thread. All devices are alike.
struct Hardware {
  int devices = 1;           ///< RINGTREE_EMULATED_DEVICES
  int hidden = 0;            ///< RINGTREE_EMULATED_HIDDEN: how many before them the process does not see
  int multiprocessors = 64;  ///< RINGTREE_EMULATED_MULTIPROCESSORS
  int blocks_per_multiprocessor = 1;  ///< RINGTREE_EMULATED_OCCUPANCY
  int lanes_per_block = 8;            ///< RINGTREE_EMULATED_LANES: cudaDevAttrMaxThreadsPerBlock
  std::size_t memory_bytes = std::size_t{4} << 30U;  ///< RINGTREE_EMULATED_MEMORY, of each device
  int island = 0;  ///< RINGTREE_EMULATED_ISLAND: so many in a row reach each other's memory; 0: all do
  int nvlink = 1;  ///< RINGTREE_EMULATED_NVLINK: whether that goes by NVLink; 0: over PCIe
  int major = 9, minor = 0;  ///< compute capability

  int resident_blocks() const { return multiprocessors * blocks_per_multiprocessor; }
};

/// What the environment says, until set_hardware().
Hardware hardware();
/// Holds from the next call on. Not while anything runs.
void set_hardware(const Hardware& hardware);

/// Lives, where nothing else is said. Of this process alone.
struct Statistics {
  std::uint64_t launches;                              ///< of kernels, ever; those of graphs too
  std::uint64_t graph_launches;                        ///< ever
  std::uint64_t threads;                               ///< that run lanes or wait to do so
  std::size_t allocations, allocated_bytes;            ///< cudaMalloc, cudaMallocAsync
  std::size_t host_allocations, host_allocated_bytes;  ///< cudaMallocHost, cudaHostAlloc
  std::size_t registrations;                           ///< cudaHostRegister
  std::size_t opened_handles;                          ///< cudaIpcOpenMemHandle, each time it was opened
  std::size_t streams, events, graphs, executables;
  std::size_t memory_handles;               ///< cuMemCreate, cuMemRetain..., cuMemImport...
  std::size_t reservations, mapped_chunks;  ///< cuMemAddressReserve, cuMemMap

  /// What should be as before once everything has been given back.
  bool same_lives(const Statistics& other) const;
};

Statistics statistics();

/// The `skipped`+1st call from now on of `function`, "cudaMalloc" for example, does nothing but return
/// `error`.
void fail_call(const std::string& function, cudaError_t error, int skipped = 0);
/// From now on almost every call returns `error`, as after a kernel that crashed. Kernels that run go on.
void break_device(cudaError_t error);
/// Takes back fail_call() and break_device().
void mend();

}  // namespace ringtree_emulator
