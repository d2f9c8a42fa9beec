#include "core/numeric.h"

#include <gtest/gtest.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "core/small_float_reference.h"

namespace ringtree {
namespace {

template <class T>
class SmallFloats : public testing::Test {
 protected:
  using Bits = decltype(T::bits);
  static constexpr unsigned kCodes = std::numeric_limits<Bits>::max() + 1U;

  const SmallFloatReference& reference_ = reference_of<T>();

  static T coded(unsigned code) { return T{static_cast<Bits>(code)}; }

  void expect_nearest(float value) const {
    EXPECT_EQ(narrow<T>(value).bits, reference_.nearest(static_cast<double>(value)))
        << value << ", bits " << std::hex << bits_as<std::uint32_t>(value);
  }
};

struct Names {
  template <class T>
  static std::string GetName(int) {
    if (std::is_same_v<T, Float16>) return "float16";
    if (std::is_same_v<T, BFloat16>) return "bfloat16";
    return std::is_same_v<T, Float8E4M3> ? "float8_e4m3fn" : "float8_e5m2";
  }
};

using EverySmallFloat = testing::Types<Float16, BFloat16, Float8E4M3, Float8E5M2>;
TYPED_TEST_SUITE(SmallFloats, EverySmallFloat, Names);

TYPED_TEST(SmallFloats, EveryCodeWidensToItsValue) {
  for (unsigned code = 0; code < this->kCodes; ++code) {
    const float widened = widen(this->coded(code));
    const double value = this->reference_.value(code);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(widened)) << code;
    } else {
      EXPECT_EQ(static_cast<double>(widened), value) << code;
      EXPECT_EQ(std::signbit(widened), std::signbit(value)) << code;
    }
  }
}

TYPED_TEST(SmallFloats, EveryCodeSurvivesTheRoundTrip) {
  for (unsigned code = 0; code < this->kCodes; ++code) {
    const bool is_nan = std::isnan(this->reference_.value(code));
    EXPECT_EQ(narrow<TypeParam>(widen(this->coded(code))).bits, is_nan ? this->reference_.nan : code) << code;
  }
}

TYPED_TEST(SmallFloats, TiesRoundToEvenAndTheirNeighboursToTheirOwnSide) {
  const auto& values = this->reference_.values;
  for (std::size_t code = 0; code + 1 < values.size(); ++code) {
    const auto tie = static_cast<float>((values[code] + values[code + 1]) / 2);
    ASSERT_EQ(static_cast<double>(tie), (values[code] + values[code + 1]) / 2) << "no float32 is the tie";
    for (const float sign : {1.0F, -1.0F}) {
      this->expect_nearest(sign * tie);
      this->expect_nearest(sign * std::nextafter(tie, 0.0F));
      this->expect_nearest(sign * std::nextafter(tie, std::numeric_limits<float>::infinity()));
    }
  }
}

TYPED_TEST(SmallFloats, AnyFloat32RoundsToTheNearest) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i)
    this->expect_nearest(bits_as<float>(static_cast<std::uint32_t>(random())));
}

TYPED_TEST(SmallFloats, InfinityOverflowsAndNanStaysNan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const unsigned overflow = this->reference_.first_special();  // infinity, or NaN where there is none
  EXPECT_EQ(narrow<TypeParam>(kInfinity).bits, overflow);
  EXPECT_EQ(narrow<TypeParam>(-kInfinity).bits, overflow | this->reference_.sign_bit());
  for (const std::uint32_t nan :
       {0x7F800001U, 0x7FBFFFFFU, 0x7FC00000U, 0x7FFFFFFFU, 0xFF800001U, 0xFFFFFFFFU})
    EXPECT_EQ(narrow<TypeParam>(bits_as<float>(nan)).bits, this->reference_.nan) << std::hex << nan;
}

#ifdef __SSE2__
template <class T>
void expect_round_trips_while_subnormals_are_flushed() {
  const SmallFloatReference& reference = reference_of<T>();
  const unsigned mode = _mm_getcsr();
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  for (unsigned code = 0; code < reference.first_special(); ++code) {
    _mm_setcsr(mode | kFlushToZero | kDenormalsAreZero);
    const T back = narrow<T>(widen(T{static_cast<decltype(T::bits)>(code)}));
    _mm_setcsr(mode);
    EXPECT_EQ(back.bits, code);
  }
}

// Not so bfloat16, whose subnormals are subnormal in float32.
TEST(Numeric, ConversionsNeedNoSubnormalFloat32) {
  expect_round_trips_while_subnormals_are_flushed<Float16>();
  expect_round_trips_while_subnormals_are_flushed<Float8E4M3>();
  expect_round_trips_while_subnormals_are_flushed<Float8E5M2>();
}
#endif

// The limits as ml_dtypes has them.
TEST(Numeric, OverflowBeginsWhereOthersHaveIt) {
  EXPECT_EQ(narrow<Float16>(65519.996F).bits, 0x7BFF);
  EXPECT_EQ(narrow<Float16>(65520.0F).bits, 0x7C00);
  EXPECT_EQ(narrow<Float8E5M2>(61439.996F).bits, 0x7B);
  EXPECT_EQ(narrow<Float8E5M2>(61440.0F).bits, 0x7C);
  EXPECT_EQ(narrow<Float8E4M3>(464.0F).bits, 0x7E);
  EXPECT_EQ(narrow<Float8E4M3>(464.00003F).bits, 0x7F);
  EXPECT_EQ(narrow<Float8E4M3>(-1000.0F).bits, 0xFF);
  EXPECT_EQ(narrow<BFloat16>(3.3961776e38F).bits, 0x7F80);
}

TEST(Numeric, OnlyNansOfLargeFloatsChange) {
  EXPECT_EQ(bits_as<std::uint32_t>(narrow<float>(bits_as<float>(0xFF800001U))), 0x7FC00000U);
  EXPECT_EQ(bits_as<std::uint64_t>(narrow<double>(bits_as<double>(0xFFF0000000000001U))),
            0x7FF8000000000000U);
  EXPECT_EQ(bits_as<std::uint32_t>(narrow<float>(-0.0F)), 0x80000000U);
  EXPECT_EQ(narrow<double>(1e-310), 1e-310);
}

TEST(Numeric, SmallFloatsAccumulateInFloat32AndTheOthersInThemselves) {
  static_assert(std::is_same_v<Accumulator<Float16>, float>);
  static_assert(std::is_same_v<Accumulator<BFloat16>, float>);
  static_assert(std::is_same_v<Accumulator<Float8E4M3>, float>);
  static_assert(std::is_same_v<Accumulator<Float8E5M2>, float>);
  static_assert(std::is_same_v<Accumulator<float>, float>);
  static_assert(std::is_same_v<Accumulator<double>, double>);
  static_assert(std::is_same_v<Accumulator<std::int8_t>, std::int8_t>);
  static_assert(std::is_same_v<Accumulator<Bool>, Bool>);
}

TEST(Numeric, ConversionsAreConstantExpressions) {
  static_assert(narrow<Float16>(1.0F).bits == 0x3C00);
  static_assert(widen(Float8E4M3{0x01}) == 0x1p-9F);
  static_assert(widen(BFloat16{0xBF80}) == -1.0F);
}

}  // namespace
}  // namespace ringtree
