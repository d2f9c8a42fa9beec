// Tensors as the core takes them: where they lie, how many elements of which type.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <string>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <vector>

#include "core/dtype.h"
#include "core/op.h"

namespace ringtree {

using Tensors = std::vector<at::Tensor>;

/// Elements of the core's type that stand for one of the tensor's: two for a complex number, the bytes of
/// one that is only moved and that the core does not know.
struct Elements {
  DType dtype;
  std::size_t each;

  std::size_t of(const at::Tensor& tensor) const { return of(tensor.numel()); }
  std::size_t of(std::int64_t count) const { return static_cast<std::size_t>(count) * each; }
};

/// For calls that move elements as they are.
Elements moved(const at::Tensor& tensor);

/// For reductions. Throws InvalidArgument, which begins with `where`, if they do not exist for the type.
Elements reduced(const at::Tensor& tensor, const c10d::ReduceOp& op, const std::string& where);

struct CoreOp {
  ReduceOp op;
  double factor;
};

CoreOp core_op(const c10d::ReduceOp& op, const std::string& where);

/// Throws InvalidArgument unless all are dense tensors of the first one's type, on its CPU or GPU.
void check_tensors(const Tensors& tensors, const std::string& where);

/// Throws InvalidArgument for tensors on a GPU: for calls that the GPU has not.
void check_on_cpu(const Tensors& tensors, const std::string& where);

/// What a call works on in place of the user's tensors, where those are not contiguous or do not lie behind
/// one another, and what brings the result back.
class Staging {
 public:
  at::Tensor input(const at::Tensor& tensor);
  at::Tensor output(const at::Tensor& tensor);
  at::Tensor in_place(const at::Tensor& tensor);

  /// One behind the other.
  at::Tensor inputs(const Tensors& tensors);
  at::Tensor outputs(const Tensors& tensors);

  /// After the call: copies results to where the user wants them.
  void finish() const;

  /// On a GPU: what was staged is in use until the stream has come past what it holds now.
  void record_stream(const c10::Stream& stream) const;

 private:
  struct Copy {
    at::Tensor to, from;
  };
  at::Tensor keep(at::Tensor tensor);

  Tensors kept_;
  std::vector<Copy> copies_;
};

}  // namespace ringtree
