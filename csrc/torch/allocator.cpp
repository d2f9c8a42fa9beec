#include "torch/allocator.h"

#include <ATen/Functions.h>

#include <cstring>
#include <memory>

#include "communicator/blocks.h"
#include "core/gpu.h"

namespace ringtree {

c10::DataPtr BlockAllocator::allocate(std::size_t bytes) {
  using Block = std::shared_ptr<std::byte>;
  auto block = std::make_unique<Block>(allocate_block(bytes));
  void* data = block->get();
  return {data, block.release(), [](void* last) { delete static_cast<Block*>(last); }, at::kCPU};
}

void BlockAllocator::copy_data(void* to, const void* from, std::size_t bytes) const {
  std::memcpy(to, from, bytes);
}

at::Tensor tensor_in_block(std::int64_t count, const at::TensorOptions& options) {
  const std::size_t bytes = static_cast<std::size_t>(count) * options.dtype().itemsize();
  const bool on_gpu = options.device().is_cuda();
  const std::shared_ptr<std::byte> block = on_gpu ? gpu_library().allocate(bytes) : allocate_block(bytes);
  return at::from_blob(
      block.get(), {count}, [block](void* /*data*/) {}, on_gpu ? options : options.device(at::kCPU));
}

}  // namespace ringtree
