// Tensors in memory that peers can map (communicator/blocks.h): calls of 64 KiB and more whose tensors all
// lie there go without slots.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <cstddef>

namespace ringtree {

class BlockAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override;
  void copy_data(void* to, const void* from, std::size_t bytes) const override;
};

/// One dimension, of whatever content; on a GPU PyTorch's memory. Throws TransportError if there is not so
/// much memory.
at::Tensor tensor_in_block(std::int64_t count, const at::TensorOptions& options);

}  // namespace ringtree
