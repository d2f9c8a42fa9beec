#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

namespace ringtree {
namespace {

struct Expected {
  std::string name;
  std::size_t size;
  bool is_float;
};

// The order is part of the interface: Python passes the index.
const std::vector<Expected> kExpected{
    {"float64", 8, true},       {"float32", 4, true},     {"float16", 2, true}, {"bfloat16", 2, true},
    {"float8_e4m3fn", 1, true}, {"float8_e5m2", 1, true}, {"int64", 8, false},  {"int32", 4, false},
    {"int8", 1, false},         {"uint8", 1, false},      {"bool", 1, false}};

TEST(DType, IsTheListThatPythonKnows) {
  ASSERT_EQ(kDTypes, kExpected.size());
  for (std::size_t code = 0; code < kDTypes; ++code) {
    const auto dtype = static_cast<DType>(code);
    EXPECT_EQ(name_of(dtype), kExpected[code].name);
    EXPECT_EQ(size_of(dtype), kExpected[code].size) << name_of(dtype);
    EXPECT_EQ(is_float(dtype), kExpected[code].is_float) << name_of(dtype);
  }
}

TEST(DType, EnumeratorsCarryTheirNames) {
  EXPECT_STREQ(name_of(DType::float8_e4m3fn), "float8_e4m3fn");
  EXPECT_STREQ(name_of(DType::bool_), "bool");
}

}  // namespace
}  // namespace ringtree
