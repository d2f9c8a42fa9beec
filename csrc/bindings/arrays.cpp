#include "bindings/arrays.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "bindings/dlpack.h"

namespace py = pybind11;

namespace ringtree {
namespace {

std::optional<DType> float_of(unsigned bits) {
  switch (bits) {
    case 16: return DType::float16;
    case 32: return DType::float32;
    case 64: return DType::float64;
    default: return std::nullopt;
  }
}

std::optional<DType> int_of(unsigned bits, bool is_signed) {
  if (bits == 8) return is_signed ? DType::int8 : DType::uint8;
  if (bits == 32 && is_signed) return DType::int32;
  if (bits == 64 && is_signed) return DType::int64;
  return std::nullopt;
}

std::optional<DType> dtype_of(const py::dtype& type) {
  if (type.byteorder() != '=' && type.byteorder() != '|') return std::nullopt;  // foreign to this machine
  const auto bits = static_cast<unsigned>(type.itemsize()) * 8;
  switch (type.kind()) {
    case 'f': return float_of(bits);
    case 'i': return int_of(bits, true);
    case 'u': return int_of(bits, false);
    case 'b': return DType::bool_;
    default: return std::nullopt;  // also the types of ml_dtypes
  }
}

std::optional<PlainArray> from_numpy(const py::array& array, bool writable) {
  constexpr int kContiguous = 0x0001, kAligned = 0x0100, kWriteable = 0x0400;  // NPY_ARRAY_*: a stable ABI
  const int needed = kContiguous | kAligned | (writable ? kWriteable : 0);
  if ((array.flags() & needed) != needed) return std::nullopt;
  const std::optional<DType> dtype = dtype_of(array.dtype());
  if (!dtype) return std::nullopt;
  return PlainArray{static_cast<std::byte*>(const_cast<void*>(array.data())),
                    static_cast<std::size_t>(array.size()), *dtype};
}

std::optional<DType> dtype_of(const dlpack::Tensor& tensor) {
  if (tensor.lanes != 1) return std::nullopt;
  switch (tensor.code) {
    case dlpack::kFloat: return float_of(tensor.bits);
    case dlpack::kInt: return int_of(tensor.bits, true);
    case dlpack::kUInt: return int_of(tensor.bits, false);
    case dlpack::kBfloat: return tensor.bits == 16 ? std::optional(DType::bfloat16) : std::nullopt;
    case dlpack::kBool: return tensor.bits == 8 ? std::optional(DType::bool_) : std::nullopt;
    case dlpack::kE4m3fn: return DType::float8_e4m3fn;
    case dlpack::kE5m2: return DType::float8_e5m2;
    default: return std::nullopt;
  }
}

/// The elements of a C-contiguous tensor; nothing for other strides.
std::optional<std::size_t> contiguous_count(const dlpack::Tensor& tensor) {
  std::int64_t count = 1;
  for (std::int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.strides != nullptr && tensor.shape[i] != 1 && tensor.strides[i] != count && count != 0)
      return std::nullopt;
    count *= tensor.shape[i];
  }
  return static_cast<std::size_t>(count);
}

/// The API of a type that defines it itself: what a subclass (DTensor) inherits need not fit it. Types met
/// are remembered, and kept alive, so that no other type comes to lie at the same address.
const dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  struct Met {
    PyTypeObject* type;
    const dlpack::ExchangeApi* api;
  };
  static std::array<Met, 8> met{};
  static std::size_t many = 0;
  for (std::size_t i = 0; i < many; ++i)
    if (met[i].type == type) return met[i].api;

  const dlpack::ExchangeApi* api = nullptr;
  PyObject* capsule = PyDict_GetItemString(type->tp_dict, dlpack::kAttribute);
  if (capsule != nullptr && PyCapsule_IsValid(capsule, dlpack::kCapsule)) {
    api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule, dlpack::kCapsule));
    if (api->major != dlpack::kMajor || api->view == nullptr) api = nullptr;
  }
  if (many < met.size()) {
    Py_INCREF(type);
    met[many++] = {type, api};
  }
  return api;
}

/// Autograd must see what changes a tensor that requires grad: buffers.py knows what to say.
bool requires_grad(PyObject* object) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  PyObject* answer = PyObject_GetAttr(object, name);
  if (answer == nullptr) PyErr_Clear();
  const bool required = answer == Py_True;
  Py_XDECREF(answer);
  return required;
}

std::optional<PlainArray> from_dlpack(PyObject* object, const dlpack::ExchangeApi& api, bool writable) {
  dlpack::Tensor tensor{};
  if (api.view(object, &tensor) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const std::optional<DType> dtype = dtype_of(tensor);
  const std::optional<std::size_t> count = contiguous_count(tensor);
  if (!dtype || !count || tensor.device_type != dlpack::kCpu) return std::nullopt;
  if (writable && requires_grad(object)) return std::nullopt;
  if (tensor.data == nullptr)
    return *count == 0 ? std::optional(PlainArray{nullptr, 0, *dtype}) : std::nullopt;
  return PlainArray{static_cast<std::byte*>(tensor.data) + tensor.byte_offset, *count, *dtype};
}

}  // namespace

std::optional<PlainArray> plain_array(PyObject* object, bool writable) {
  if (py::isinstance<py::array>(object))
    return from_numpy(py::reinterpret_borrow<py::array>(object), writable);
  const dlpack::ExchangeApi* api = exchange_api(Py_TYPE(object));
  return api == nullptr ? std::nullopt : from_dlpack(object, *api, writable);
}

}  // namespace ringtree
