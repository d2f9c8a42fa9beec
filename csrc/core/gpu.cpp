#include "core/gpu.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "core/errors.h"

namespace ringtree {
namespace {

constexpr const char* kFile = "libringtree_cuda.so";

/// Beside the module that this code is part of.
std::string path_beside_this() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&path_beside_this), &info) == 0) return kFile;
  const std::string self = info.dli_fname;
  const std::size_t slash = self.rfind('/');
  return slash == std::string::npos ? kFile : self.substr(0, slash + 1) + kFile;
}

GpuLibrary& load() {
  const char* const chosen = std::getenv("RINGTREE_CUDA_LIBRARY");
  const std::string path = chosen != nullptr ? chosen : path_beside_this();
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = dlerror();
    throw TransportError("ringtree's CUDA fabric cannot be loaded (" +
                         std::string(why != nullptr ? why : path) +
                         "): install ringtree where CUDA's compiler, nvcc, is found (docs/gpu.md)");
  }
  const auto entry = reinterpret_cast<GpuLibraryEntry>(dlsym(library, "ringtree_gpu_library"));
  if (entry == nullptr) throw TransportError(path + " is not ringtree's CUDA fabric");
  return *entry();
}

}  // namespace

GpuLibrary& gpu_library() {
  static std::mutex mutex;
  static GpuLibrary* library = nullptr;
  const std::lock_guard lock(mutex);
  if (library == nullptr) library = &load();
  return *library;
}

}  // namespace ringtree
