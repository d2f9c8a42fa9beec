// What programs in C++ ask of a backend and Python cannot: its allocator.
#include <ATen/ops/from_blob.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <cstdint>
#include <memory>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

namespace {

/// Bytes from the allocator of a group's backend for CPU tensors.
at::Tensor allocate(const c10::intrusive_ptr<c10d::ProcessGroup>& group, std::int64_t bytes) {
  const std::shared_ptr<c10::Allocator> allocator = group->getBackend(c10::kCPU)->getMemAllocator();
  const auto memory = std::make_shared<c10::DataPtr>(allocator->allocate(static_cast<std::size_t>(bytes)));
  return at::from_blob(memory->get(), {bytes}, [memory](void* /*data*/) {}, at::kByte);
}

/// Whether it copies as an allocator has to.
bool copies(const c10::intrusive_ptr<c10d::ProcessGroup>& group, const at::Tensor& to,
            const at::Tensor& from) {
  group->getBackend(c10::kCPU)->getMemAllocator()->copy_data(to.data_ptr(), from.const_data_ptr(),
                                                             to.nbytes());
  return to.equal(from);
}

}  // namespace

TORCH_LIBRARY(ringtree_test, m) {
  m.def("allocate", &allocate);
  m.def("copies", &copies);
}
