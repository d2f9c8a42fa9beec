// The part of DLPack's C exchange API (version 1) that reads a tensor without taking hold of it: names and
// layout as in https://dmlc.github.io/dlpack/latest/c_api.html, so that no header of another package is
// needed.
#pragma once

#include <cstdint>

namespace ringtree::dlpack {

inline constexpr const char* kAttribute = "__dlpack_c_exchange_api__";
inline constexpr const char* kCapsule = "dlpack_exchange_api";
inline constexpr std::uint32_t kMajor = 1;
inline constexpr std::int32_t kCpu = 1;

enum TypeCode : std::uint8_t {
  kInt = 0,
  kUInt = 1,
  kFloat = 2,
  kBfloat = 4,
  kBool = 6,
  kE4m3fn = 10,
  kE5m2 = 12
};

struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t ndim;
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
  const std::int64_t* shape;
  const std::int64_t* strides;  ///< in elements; null: C-contiguous
  std::uint64_t byte_offset;
};

struct ExchangeApi {
  std::uint32_t major, minor;
  ExchangeApi* previous;
  int (*allocate)(Tensor*, void**, void*, void (*)(void*, const char*, const char*));
  int (*export_owned)(void*, void**);
  int (*import_owned)(void*, void**);
  int (*view)(void*, Tensor*);  ///< fills in what is valid until control goes back to Python; 0 on success
  int (*current_stream)(std::int32_t, std::int32_t, void**);
};

}  // namespace ringtree::dlpack
