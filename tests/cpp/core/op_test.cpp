#include "core/op.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace ringtree {
namespace {

constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

// The order is part of the interface: Python passes the index.
TEST(ReduceOp, IsTheListThatPythonKnows) {
  const std::vector<std::string> expected{"sum",        "prod", "min", "max", "avg",
                                          "premul_sum", "band", "bor", "bxor"};
  ASSERT_EQ(kReduceOps, expected.size());
  for (std::size_t code = 0; code < kReduceOps; ++code)
    EXPECT_EQ(name_of(static_cast<ReduceOp>(code)), expected[code]);
}

TEST(ReduceOp, BitsAreForIntegersAndQuotientsForFloats) {
  for (std::size_t code = 0; code < kDTypes; ++code) {
    const auto dtype = static_cast<DType>(code);
    const std::string name = name_of(dtype);
    const bool floating = name.starts_with("float") || name == "bfloat16";
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::prod, ReduceOp::min, ReduceOp::max})
      EXPECT_TRUE(supports(op, dtype)) << name;
    for (const ReduceOp op : {ReduceOp::avg, ReduceOp::premul_sum})
      EXPECT_EQ(supports(op, dtype), floating) << name;
    for (const ReduceOp op : {ReduceOp::band, ReduceOp::bor, ReduceOp::bxor})
      EXPECT_EQ(supports(op, dtype), !floating) << name;
  }
}

TEST(Functors, IntegersWrap) {
  constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max(), kMin = -kMax - 1;
  EXPECT_EQ(Sum{}(kMax, 1), kMin);
  EXPECT_EQ(Prod{}(kMin, -1), kMin);
  EXPECT_EQ(Sum{}(std::int8_t{127}, std::int8_t{1}), -128);
  EXPECT_EQ(Prod{}(std::uint8_t{200}, std::uint8_t{200}), 40000 % 256);
  EXPECT_EQ(Sum{}(std::numeric_limits<std::int64_t>::min(), std::int64_t{-1}),
            std::numeric_limits<std::int64_t>::max());
}

TEST(Functors, BoolsFollowTheirTruthTablesWhateverByteIsTrue) {
  const std::vector<std::uint8_t> bytes{0, 1, 2, 255};
  for (const std::uint8_t left : bytes)
    for (const std::uint8_t right : bytes) {
      const Bool a{left}, b{right};
      const bool either = left != 0 || right != 0, both = left != 0 && right != 0;
      for (const Bool result : {Sum{}(a, b), Max{}(a, b), Bor{}(a, b)}) EXPECT_EQ(result.bits, either);
      for (const Bool result : {Prod{}(a, b), Min{}(a, b), Band{}(a, b)}) EXPECT_EQ(result.bits, both);
      EXPECT_EQ(Bxor{}(a, b).bits, either && !both);
    }
}

TEST(Functors, MinAndMaxPropagateNanFromBothSides) {
  for (const float number : {-std::numeric_limits<float>::infinity(), 0.0F, 1.0F}) {
    EXPECT_TRUE(std::isnan(Min{}(kNotANumber, number)) && std::isnan(Min{}(number, kNotANumber)));
    EXPECT_TRUE(std::isnan(Max{}(kNotANumber, number)) && std::isnan(Max{}(number, kNotANumber)));
  }
}

TEST(Functors, OfEqualsMinAndMaxTakeTheLeft) {
  EXPECT_FALSE(std::signbit(Min{}(0.0F, -0.0F)) || std::signbit(Max{}(0.0F, -0.0F)));
  EXPECT_TRUE(std::signbit(Min{}(-0.0F, 0.0F)) && std::signbit(Max{}(-0.0F, 0.0F)));
}

}  // namespace
}  // namespace ringtree
