// What tests in Python see of the emulated devices beside CUDA's functions.
#include <cstdint>

#include "cuda_runtime_api.h"
#include "emulator.h"
#include "runtime.h"

extern "C" {

/// Of the calling thread.
__attribute__((visibility("default"))) int ringtree_emulated_set_device(int device) {
  return cudaSetDevice(device);
}

/// Whether this process uses the device.
__attribute__((visibility("default"))) int ringtree_emulated_has_begun(int device) {
  return ringtree_emulator::has_begun(device) ? 1 : 0;
}

/// How many live of what holds memory or names, in the order of ringtree_emulator::Statistics.
__attribute__((visibility("default"))) void ringtree_emulated_lives(std::uint64_t (&lives)[9]) {
  const ringtree_emulator::Statistics now = ringtree_emulator::statistics();
  lives[0] = now.allocations;
  lives[1] = now.host_allocations;
  lives[2] = now.registrations;
  lives[3] = now.opened_handles;
  lives[4] = now.streams;
  lives[5] = now.events;
  lives[6] = now.memory_handles;
  lives[7] = now.reservations;
  lives[8] = now.mapped_chunks;
}
}
