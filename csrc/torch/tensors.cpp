#include "torch/tensors.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <optional>
#include <utility>

#include "core/errors.h"

namespace ringtree {
namespace {

std::optional<DType> dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return DType::float64;
    case at::kFloat: return DType::float32;
    case at::kHalf: return DType::float16;
    case at::kBFloat16: return DType::bfloat16;
    case at::kFloat8_e4m3fn: return DType::float8_e4m3fn;
    case at::kFloat8_e5m2: return DType::float8_e5m2;
    case at::kLong: return DType::int64;
    case at::kInt: return DType::int32;
    case at::kChar: return DType::int8;
    case at::kByte: return DType::uint8;
    case at::kBool: return DType::bool_;
    default: return std::nullopt;
  }
}

/// Whether they are the parts of one array, in order, with nothing between them.
bool adjoin(const Tensors& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].is_contiguous()) return false;
    if (i == 0) continue;
    const auto* end = static_cast<const char*>(tensors[i - 1].const_data_ptr()) + tensors[i - 1].nbytes();
    if (tensors[i].const_data_ptr() != end || !tensors[i].is_alias_of(tensors[0])) return false;
  }
  return true;
}

/// All elements that lie from the first one's on.
at::Tensor as_one(const Tensors& tensors) {
  std::int64_t count = 0;
  for (const at::Tensor& tensor : tensors) count += tensor.numel();
  return tensors.front().as_strided({count}, {1});
}

}  // namespace

Elements moved(const at::Tensor& tensor) {
  if (const std::optional<DType> dtype = dtype_of(tensor.scalar_type())) return {*dtype, 1};
  return {DType::uint8, static_cast<std::size_t>(tensor.element_size())};
}

Elements reduced(const at::Tensor& tensor, const c10d::ReduceOp& op, const std::string& where) {
  const at::ScalarType type = tensor.scalar_type();
  if (c10::isComplexType(type) && (type == at::kComplexFloat || type == at::kComplexDouble)) {
    if (!c10d::isComplexViewAsRealAllowed(op))
      throw InvalidArgument(where + ": complex numbers can be summed and averaged, nothing else");
    return {type == at::kComplexFloat ? DType::float32 : DType::float64, 2};
  }
  if (const std::optional<DType> dtype = dtype_of(type)) return {*dtype, 1};
  throw InvalidArgument(where + ": ringtree does not compute with " + c10::toString(type) +
                        "; it can move it (broadcast, all_gather, send, ...)");
}

CoreOp core_op(const c10d::ReduceOp& op, const std::string& where) {
  switch (op.op_) {
    case c10d::ReduceOp::SUM: return {ReduceOp::sum, 1};
    case c10d::ReduceOp::AVG: return {ReduceOp::avg, 1};
    case c10d::ReduceOp::PRODUCT: return {ReduceOp::prod, 1};
    case c10d::ReduceOp::MIN: return {ReduceOp::min, 1};
    case c10d::ReduceOp::MAX: return {ReduceOp::max, 1};
    case c10d::ReduceOp::BAND: return {ReduceOp::band, 1};
    case c10d::ReduceOp::BOR: return {ReduceOp::bor, 1};
    case c10d::ReduceOp::BXOR: return {ReduceOp::bxor, 1};
    case c10d::ReduceOp::PREMUL_SUM: {
      // Its name in 2.11; later releases know it as well.
      const auto* scale = dynamic_cast<const c10d::NCCLPreMulSumSupplement*>(op.supplement_.get());
      if (scale == nullptr) break;
      return {ReduceOp::premul_sum,
              scale->tensor_factor.defined() ? scale->tensor_factor.item<double>() : scale->double_factor};
    }
    default: break;
  }
  throw InvalidArgument(where + ": there is no such ReduceOp");
}

void check_tensors(const Tensors& tensors, const std::string& where) {
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.device().is_cpu() && !tensor.device().is_cuda())
      throw InvalidArgument(where + ": ringtree moves tensors of CPUs and of GPUs by CUDA, not one on " +
                            tensor.device().str());
    if (tensor.device() != tensors.front().device())
      throw InvalidArgument(where + ": all tensors of a call must be on one device, not " +
                            tensors.front().device().str() + " and " + tensor.device().str());
    if (tensor.layout() != at::kStrided)
      throw InvalidArgument(where + ": tensors must be dense, not " + c10::str(tensor.layout()));
    if (tensor.scalar_type() != tensors.front().scalar_type())
      throw InvalidArgument(where + ": all tensors of a call must have one type, not " +
                            c10::toString(tensors.front().scalar_type()) + " and " +
                            c10::toString(tensor.scalar_type()));
  }
}

void check_on_cpu(const Tensors& tensors, const std::string& where) {
  for (const at::Tensor& tensor : tensors)
    if (!tensor.device().is_cpu())
      throw InvalidArgument(where + ": is for CPU tensors so far, not for one on " + tensor.device().str());
}

at::Tensor Staging::keep(at::Tensor tensor) {
  kept_.push_back(tensor);
  return tensor;
}

at::Tensor Staging::input(const at::Tensor& tensor) {
  const at::NoGradGuard no_grad;
  return keep(tensor.is_conj() || tensor.is_neg() ? tensor.resolve_conj().resolve_neg().contiguous()
                                                  : tensor.contiguous());
}

at::Tensor Staging::output(const at::Tensor& tensor) {
  if (tensor.is_contiguous()) return keep(tensor);
  copies_.push_back({tensor, at::empty_like(tensor, at::MemoryFormat::Contiguous)});
  return copies_.back().from;
}

at::Tensor Staging::in_place(const at::Tensor& tensor) {
  if (tensor.is_contiguous()) return keep(tensor);
  const at::NoGradGuard no_grad;
  copies_.push_back({tensor, tensor.contiguous()});
  return copies_.back().from;
}

at::Tensor Staging::inputs(const Tensors& tensors) {
  const at::NoGradGuard no_grad;
  if (adjoin(tensors)) return keep(as_one(tensors));
  Tensors flat;
  flat.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) flat.push_back(tensor.reshape({-1}));
  return keep(at::cat(flat));
}

at::Tensor Staging::outputs(const Tensors& tensors) {
  const at::NoGradGuard no_grad;
  if (adjoin(tensors)) return keep(as_one(tensors));
  std::int64_t count = 0;
  for (const at::Tensor& tensor : tensors) count += tensor.numel();
  at::Tensor flat = at::empty({count}, tensors.front().options());
  std::int64_t begin = 0;
  for (const at::Tensor& tensor : tensors) {
    copies_.push_back({tensor, flat.narrow(0, begin, tensor.numel()).view(tensor.sizes())});
    begin += tensor.numel();
  }
  return keep(flat);
}

void Staging::record_stream(const c10::Stream& stream) const {
  for (const at::Tensor& tensor : kept_) tensor.record_stream(stream);
  for (const Copy& copy : copies_) copy.from.record_stream(stream);
}

void Staging::finish() const {
  const at::NoGradGuard no_grad;
  for (const Copy& copy : copies_) copy.to.copy_(copy.from);
}

}  // namespace ringtree
