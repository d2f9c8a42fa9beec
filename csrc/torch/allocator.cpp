#include "torch/allocator.h"

#include <ATen/Functions.h>

#include <cstring>
#include <memory>

#include "communicator/blocks.h"

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
  // What PyTorch has there peers map as it is, and PyTorch knows which streams use it.
  if (options.device().is_cuda()) return at::empty({count}, options);
  const std::size_t bytes = static_cast<std::size_t>(count) * options.dtype().itemsize();
  const std::shared_ptr<std::byte> block = allocate_block(bytes);
  return at::from_blob(block.get(), {count}, [block](void* /*data*/) {}, options.device(at::kCPU));
}

}  // namespace ringtree
