// Launches: CUDA passes arguments as void**, whose types the kernel's own type tells.
#pragma once

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime_types.h"

namespace ringtree_emulator {

struct Launch {
  const void* kernel;  ///< who it is, for limits that were set by cudaFuncSetAttribute
  dim3 grid, block;
  std::size_t shared_bytes;
  bool cooperative;
  std::function<void()> lane;  ///< what each lane runs: the kernel, with its arguments
};

cudaError_t launch(const char* call, Launch what, cudaStream_t stream);
cudaError_t function_attributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t blocks_per_multiprocessor(int* blocks, const void* kernel, int block_size,
                                      std::size_t shared_bytes);

template <class... A>
const void* identity(void (*kernel)(A...)) {
  return reinterpret_cast<const void*>(kernel);
}

/// A call of `kernel` with copies of the arguments, made now, as in CUDA.
template <class... A, std::size_t... I>
std::function<void()> bound(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  static_assert((std::is_trivially_copyable_v<A> && ...), "CUDA copies the bytes of arguments");
  static_assert((!std::is_reference_v<A> && ...), "a kernel cannot take references");
  return [kernel, copies = std::tuple<A...>(*static_cast<const A*>(arguments[I])...)] {
    std::apply(kernel, copies);
  };
}

template <class... A>
cudaError_t launch_with(const char* call, void (*kernel)(A...), dim3 grid, dim3 block, void** arguments,
                        std::size_t shared_bytes, bool cooperative, cudaStream_t stream) {
  if (kernel == nullptr) return launch(call, {nullptr, grid, block, shared_bytes, cooperative, {}}, stream);
  return launch(call,
                {identity(kernel), grid, block, shared_bytes, cooperative,
                 bound(kernel, arguments, std::index_sequence_for<A...>{})},
                stream);
}  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): of a std::function, which deletes it

}  // namespace ringtree_emulator

template <class... A>
cudaError_t cudaLaunchKernel(void (*kernel)(A...), dim3 grid, dim3 block, void** arguments,
                             std::size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
  return ringtree_emulator::launch_with(__func__, kernel, grid, block, arguments, shared_bytes, false,
                                        stream);
}

template <class... A>
cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(A...), dim3 grid, dim3 block, void** arguments,
                                        std::size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
  return ringtree_emulator::launch_with(__func__, kernel, grid, block, arguments, shared_bytes, true, stream);
}

inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  return ringtree_emulator::function_attributes(attributes, kernel);
}

template <class... A>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(A...)) {
  return ringtree_emulator::function_attributes(attributes, ringtree_emulator::identity(kernel));
}

template <class... A>
cudaError_t cudaFuncSetAttribute(void (*kernel)(A...), cudaFuncAttribute attribute, int value) {
  return ringtree_emulator::set_function_attribute(ringtree_emulator::identity(kernel), attribute, value);
}

template <class... A>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(A...), int block_size,
                                                          std::size_t shared_bytes) {
  return ringtree_emulator::blocks_per_multiprocessor(blocks, ringtree_emulator::identity(kernel), block_size,
                                                      shared_bytes);
}
