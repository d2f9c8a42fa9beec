#include "runtime.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <string>

#include "allocations.h"
#include "cuda_runtime_api.h"
#include "device_limits.h"
#include "emulator.h"
#include "stream.h"

namespace ringtree_emulator {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int forbidden = 0;

std::atomic<bool> forked{false}, unloads{false};
std::atomic<cudaError_t> broken{cudaSuccess};

struct Injection {
  cudaError_t error;
  int skipped;
};

struct Injections {
  std::mutex mutex;
  std::map<std::string, Injection> calls;
  std::atomic<bool> any{false};
};

cudaError_t injected(const char* call) {
  auto& injections = immortal<Injections>();
  if (!injections.any) return cudaSuccess;
  const std::lock_guard lock(injections.mutex);
  const auto found = injections.calls.find(call);
  if (found == injections.calls.end() || found->second.skipped-- > 0) return cudaSuccess;
  const cudaError_t error = found->second.error;
  injections.calls.erase(found);
  injections.any = !injections.calls.empty();
  return error;
}

/// At the end of the process. Kernels cannot be ended here, so they keep their memory.
void unload() {
  if (forked) return;
  for (int device = 0; device < hardware().devices; ++device)
    if (!is_idle(device)) return;
  unloads = true;
  forbid_host_memory();
}

}  // namespace

cudaError_t enter(const char* call) {
  static const int watched = pthread_atfork(nullptr, nullptr, [] { forked = true; }) + std::atexit(unload);
  static_cast<void>(watched);
  if (forked) return cudaErrorInitializationError;  // the threads of the parent's streams are not here
  if (unloads) return cudaErrorCudartUnloading;
  if (forbidden != 0) return cudaErrorNotPermitted;
  if (const cudaError_t error = broken; error != cudaSuccess) return error;
  return injected(call);
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

CallsForbidden::CallsForbidden() { ++forbidden; }
CallsForbidden::~CallsForbidden() { --forbidden; }

void fail_call(const std::string& function, cudaError_t error, int skipped) {
  auto& injections = immortal<Injections>();
  const std::lock_guard lock(injections.mutex);
  injections.calls[function] = {error, skipped};
  injections.any = true;
}

void break_device(cudaError_t error) { broken = error; }

void mend() {
  auto& injections = immortal<Injections>();
  const std::lock_guard lock(injections.mutex);
  injections.calls.clear();
  injections.any = false;
  broken = cudaSuccess;
}

}  // namespace ringtree_emulator

using namespace ringtree_emulator;

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = broken;  // such an error stays
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define RINGTREE_CUDA_ERROR(name, number, text) \
  case name: return #name;
#include "errors.def"
#undef RINGTREE_CUDA_ERROR
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define RINGTREE_CUDA_ERROR(name, number, text) \
  case name: return text;
#include "errors.def"
#undef RINGTREE_CUDA_ERROR
  }
  return "unrecognized error code";
}
