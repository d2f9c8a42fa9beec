// A run of elements: a pointer and a count. std::span's device side is not usable before C++23 under nvcc.
#pragma once

#include <cstddef>
#include <type_traits>

#include "core/platform.h"

namespace ringtree {

template <class T>
class Span {
 public:
  constexpr Span() = default;
  RT_HD constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}

  /// A span of T is also a span of const T.
  template <class U>
    requires std::is_same_v<const U, T>
  RT_HD explicit(false) constexpr Span(Span<U> other) : data_(other.data()), size_(other.size()) {}

  RT_HD constexpr T* data() const { return data_; }
  RT_HD constexpr std::size_t size() const { return size_; }
  RT_HD constexpr std::size_t size_bytes() const { return size_ * sizeof(T); }
  RT_HD constexpr bool empty() const { return size_ == 0; }

  RT_HD constexpr Span part(std::size_t begin, std::size_t size) const { return {data_ + begin, size}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// An element of which only the width matters: what moves without being computed with, and, on the host,
/// everything (the reduction loop behind `Reduction` knows the real type).
template <std::size_t kWidth>
struct Element {
  std::byte bytes[kWidth];
};

}  // namespace ringtree
