// The element types: one list that C++, Python and the tests expand. The order is the types' integer code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/numeric.h"

namespace ringtree {

/// X(enumerator, name in Python, type of one element in memory)
#define RINGTREE_DTYPES(X)                                  \
  X(float64, "float64", double)                             \
  X(float32, "float32", float)                              \
  X(float16, "float16", ::ringtree::Float16)                \
  X(bfloat16, "bfloat16", ::ringtree::BFloat16)             \
  X(float8_e4m3fn, "float8_e4m3fn", ::ringtree::Float8E4M3) \
  X(float8_e5m2, "float8_e5m2", ::ringtree::Float8E5M2)     \
  X(int64, "int64", std::int64_t)                           \
  X(int32, "int32", std::int32_t)                           \
  X(int8, "int8", std::int8_t)                              \
  X(uint8, "uint8", std::uint8_t)                           \
  X(bool_, "bool", ::ringtree::Bool)

enum class DType : std::uint8_t {
#define RINGTREE_ENUMERATOR(dtype, name, Storage) dtype,
  RINGTREE_DTYPES(RINGTREE_ENUMERATOR)
#undef RINGTREE_ENUMERATOR
};

#define RINGTREE_NAME(dtype, name, Storage) name,
#define RINGTREE_SIZE(dtype, name, Storage) sizeof(Storage),
#define RINGTREE_IS_FLOAT(dtype, name, Storage) std::is_floating_point_v<Accumulator<Storage>>,
inline constexpr auto kDTypeNames = std::to_array<const char*>({RINGTREE_DTYPES(RINGTREE_NAME)});
inline constexpr auto kDTypeSizes = std::to_array<std::size_t>({RINGTREE_DTYPES(RINGTREE_SIZE)});
inline constexpr auto kDTypeIsFloat = std::to_array<bool>({RINGTREE_DTYPES(RINGTREE_IS_FLOAT)});
#undef RINGTREE_NAME
#undef RINGTREE_SIZE
#undef RINGTREE_IS_FLOAT

inline constexpr std::size_t kDTypes = kDTypeNames.size();

constexpr const char* name_of(DType dtype) { return kDTypeNames[static_cast<std::size_t>(dtype)]; }

/// Bytes of one element.
constexpr std::size_t size_of(DType dtype) { return kDTypeSizes[static_cast<std::size_t>(dtype)]; }

constexpr bool is_float(DType dtype) { return kDTypeIsFloat[static_cast<std::size_t>(dtype)]; }

}  // namespace ringtree
