// The emulated devices: how many there are, and what they say of themselves.
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "emulator.h"
#include "runtime.h"

namespace ringtree_emulator {
namespace {

thread_local int chosen_device = 0;

constexpr int kMostDevices = 64;
std::array<std::atomic<bool>, kMostDevices> begun{};

void begin(int device) { begun.at(static_cast<std::size_t>(device)) = true; }

void read_variable(const char* name, auto& value) {
  if (const char* text = std::getenv(name); text != nullptr && *text != '\0')
    value = static_cast<std::remove_reference_t<decltype(value)>>(std::strtoull(text, nullptr, 10));
}

struct Devices {
  Devices() {
    read_variable("RINGTREE_EMULATED_DEVICES", hardware.devices);
    read_variable("RINGTREE_EMULATED_MULTIPROCESSORS", hardware.multiprocessors);
    read_variable("RINGTREE_EMULATED_OCCUPANCY", hardware.blocks_per_multiprocessor);
    read_variable("RINGTREE_EMULATED_LANES", hardware.lanes_per_block);
    read_variable("RINGTREE_EMULATED_MEMORY", hardware.memory_bytes);
    read_variable("RINGTREE_EMULATED_HIDDEN", hardware.hidden);
    read_variable("RINGTREE_EMULATED_ISLAND", hardware.island);
    read_variable("RINGTREE_EMULATED_NVLINK", hardware.nvlink);
  }

  std::mutex mutex;
  Hardware hardware;
  std::set<std::pair<int, int>> enabled_peers;
};

}  // namespace

Hardware hardware() {
  auto& devices = immortal<Devices>();
  const std::lock_guard lock(devices.mutex);
  return devices.hardware;
}

void set_hardware(const Hardware& hardware) {
  auto& devices = immortal<Devices>();
  const std::lock_guard lock(devices.mutex);
  devices.hardware = hardware;
}

int current_device() {
  begin(chosen_device);
  return chosen_device;
}
bool has_begun(int device) { return begun.at(static_cast<std::size_t>(device)); }
bool is_device(int device) { return device >= 0 && device < hardware().devices; }
int slot_of(int device) { return hardware().hidden + device; }

bool reaches(int device, int slot) {
  const int island = hardware().island;
  return island == 0 || slot_of(device) / island == slot / island;
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaGetDeviceCount(int* count) {
  return api(__func__, [&] {
    *count = hardware().devices;
    return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return api(__func__, [&] {
    if (hardware().devices == 0) return cudaErrorNoDevice;
    *device = chosen_device;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return api(__func__, [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    chosen_device = device;
    begin(device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return api(__func__, [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    const Hardware all = hardware();
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
      case cudaDevAttrMaxBlockDimX: *value = all.lanes_per_block; break;
      case cudaDevAttrMaxGridDimX: *value = kMaxGridX; break;
      case cudaDevAttrMaxSharedMemoryPerBlock: *value = kSharedBytes; break;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = kSharedBytesOptin; break;
      case cudaDevAttrWarpSize: *value = warpSize; break;
      case cudaDevAttrClockRate: *value = 1'000'000; break;
      case cudaDevAttrMultiProcessorCount: *value = all.multiprocessors; break;
      case cudaDevAttrMaxBlocksPerMultiprocessor: *value = all.blocks_per_multiprocessor; break;
      case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = all.lanes_per_block * all.blocks_per_multiprocessor;
        break;
      case cudaDevAttrPciBusId: *value = slot_of(device) + 1; break;
      case cudaDevAttrComputeCapabilityMajor: *value = all.major; break;
      case cudaDevAttrComputeCapabilityMinor: *value = all.minor; break;
      case cudaDevAttrIntegrated:
      case cudaDevAttrComputeMode:
      case cudaDevAttrPciDeviceId:
      case cudaDevAttrPciDomainId:
      case cudaDevAttrIpcEventSupport:
      case cudaDevAttrHostNativeAtomicSupported: *value = 0; break;
      case cudaDevAttrCanMapHostMemory:
      case cudaDevAttrConcurrentKernels:
      case cudaDevAttrUnifiedAddressing:
      case cudaDevAttrStreamPrioritiesSupported:
      case cudaDevAttrCanUseHostPointerForRegisteredMem:
      case cudaDevAttrCooperativeLaunch:
      case cudaDevAttrMemoryPoolsSupported:
      case cudaDevAttrHostRegisterSupported: *value = 1; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return api(__func__, [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    const Hardware all = hardware();
    *properties = {};
    std::strcpy(properties->name, "ringtree emulated device");
    properties->uuid.bytes[0] = static_cast<char>(slot_of(device) + 1);
    properties->totalGlobalMem = all.memory_bytes;
    properties->sharedMemPerBlock = kSharedBytes;
    properties->sharedMemPerBlockOptin = properties->sharedMemPerMultiprocessor = kSharedBytesOptin;
    properties->warpSize = warpSize;
    properties->maxThreadsPerBlock = all.lanes_per_block;
    for (int& limit : properties->maxThreadsDim) limit = all.lanes_per_block;
    properties->maxGridSize[0] = kMaxGridX;
    properties->maxGridSize[1] = properties->maxGridSize[2] = kMaxGridYZ;
    properties->major = all.major;
    properties->minor = all.minor;
    properties->multiProcessorCount = all.multiprocessors;
    properties->maxBlocksPerMultiProcessor = all.blocks_per_multiprocessor;
    properties->maxThreadsPerMultiProcessor = all.lanes_per_block * all.blocks_per_multiprocessor;
    properties->canMapHostMemory = properties->concurrentKernels = 1;
    properties->unifiedAddressing = properties->cooperativeLaunch = 1;
    properties->memoryPoolsSupported = 1;
    properties->pciBusID = slot_of(device) + 1;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  return api(__func__, [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    const int needed =
        std::snprintf(id, static_cast<std::size_t>(length), "0000:%02X:00.0", slot_of(device) + 1);
    return needed < length ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* id) {
  return api(__func__, [&] {
    unsigned number = 0;
    if (device == nullptr || std::sscanf(id, "0000:%02X:00.0", &number) != 1) return cudaErrorInvalidValue;
    const int found = static_cast<int>(number) - 1 - hardware().hidden;
    if (!is_device(found)) return cudaErrorInvalidDevice;
    *device = found;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return api(__func__, [&] {
    if (least != nullptr) *least = kLeastPriority;
    if (greatest != nullptr) *greatest = kGreatestPriority;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return api(__func__, [&] {
    if (!is_device(device) || !is_device(peer)) return cudaErrorInvalidDevice;
    *can = device != peer && reaches(device, slot_of(peer)) ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int device, int peer) {
  return api(__func__, [&] {
    if (!is_device(device) || !is_device(peer) || device == peer) return cudaErrorInvalidDevice;
    const bool can = reaches(device, slot_of(peer));
    switch (attribute) {
      case cudaDevP2PAttrPerformanceRank: *value = 0; break;
      case cudaDevP2PAttrAccessSupported: *value = can ? 1 : 0; break;
      case cudaDevP2PAttrNativeAtomicSupported: *value = can && hardware().nvlink != 0 ? 1 : 0; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

// Only remembered: kernels reach all memory anyway.
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api(__func__, [&] {
    if (flags != 0) return cudaErrorInvalidValue;
    if (!is_device(peer) || peer == chosen_device) return cudaErrorInvalidDevice;
    if (!reaches(chosen_device, slot_of(peer))) return cudaErrorPeerAccessUnsupported;
    auto& devices = immortal<Devices>();
    const std::lock_guard lock(devices.mutex);
    const bool is_new = devices.enabled_peers.emplace(chosen_device, peer).second;
    return is_new ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return api(__func__, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return api(__func__, [&] {
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}
