// What every function of the emulated runtime goes through: injected failures, the last error, forked
// children.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "runtime_types.h"

namespace ringtree_emulator {

/// Why `call` must not even begin, or cudaSuccess.
cudaError_t enter(const char* call);
/// Keeps an error for cudaGetLastError().
cudaError_t remember(cudaError_t error);
/// As enter(), for the calls that CUDA counts as unsafe while a stream is being captured. in capture.cpp.
cudaError_t enter_unsafe();

template <class Body>
cudaError_t api(const char* call, Body body) {
  const cudaError_t refused = enter(call);
  return remember(refused != cudaSuccess ? refused : body());
}

template <class Body>
cudaError_t unsafe_api(const char* call, Body body) {
  return api(call, [&] {
    const cudaError_t refused = enter_unsafe();
    return refused != cudaSuccess ? refused : body();
  });
}

/// While one lives, its thread may not call CUDA, as in a function of cudaLaunchHostFunc().
class CallsForbidden {
 public:
  CallsForbidden();
  ~CallsForbidden();
  CallsForbidden(const CallsForbidden&) = delete;
  CallsForbidden& operator=(const CallsForbidden&) = delete;
};

/// Of the calling thread, for what uses it.
int current_device();
/// Whether the process has used the device: set it, taken memory there, or the like.
bool has_begun(int device);
bool is_device(int device);
/// Which of the machine's devices that is: the same in all processes.
int slot_of(int device);
/// Whether kernels of `device` may use memory of the one in `slot`.
bool reaches(int device, int slot);

/// The handles of one kind that live.
template <class T>
class Registry {
 public:
  T* add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    T* const handle = object.get();
    objects_[handle] = std::move(object);
    return handle;
  }

  std::shared_ptr<T> find(T* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(handle);
    return found == objects_.end() ? nullptr : found->second;
  }

  std::shared_ptr<T> remove(T* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(handle);
    if (found == objects_.end()) return nullptr;
    std::shared_ptr<T> object = std::move(found->second);
    objects_.erase(found);
    return object;
  }

  std::vector<std::shared_ptr<T>> all() {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<T>> objects;
    for (const auto& entry : objects_) objects.push_back(entry.second);
    return objects;
  }

  std::size_t size() {
    const std::lock_guard lock(mutex_);
    return objects_.size();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<T*, std::shared_ptr<T>> objects_;
};

/// Never destroyed: threads of streams outlive main().
template <class T>
T& immortal() {
  static T* const instance = new T;
  return *instance;
}

}  // namespace ringtree_emulator
