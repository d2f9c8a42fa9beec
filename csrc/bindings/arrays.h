// Arrays that need no explaining: contiguous, on the CPU, of a type that collectives know. They are read here
// in a few nanoseconds; ringtree/buffers.py reads all others, and says what is wrong with those it refuses.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>

#include "core/dtype.h"

namespace ringtree {

struct PlainArray {
  std::byte* data;
  std::size_t count;
  DType dtype;

  std::size_t bytes() const { return count * size_of(dtype); }
  bool overlaps(const PlainArray& other) const {
    return count != 0 && other.count != 0 && data < other.data + other.bytes() && other.data < data + bytes();
  }
};

/// A `numpy.ndarray`, or an object whose type has DLPack's C exchange API (a `torch.Tensor`, from Torch 2.10
/// on). Nothing if it is anything else, or not plain, or a result could not go there. Raises nothing.
std::optional<PlainArray> plain_array(PyObject* object, bool writable);

}  // namespace ringtree
