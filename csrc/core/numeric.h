// The number types that C++ lacks, as bits, and the way between them and the type that computes for them.
//
// All of it is branch-free arithmetic on the bits, which compilers turn into vectors where it is in a loop.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/platform.h"

namespace ringtree {

/// Inlined even in debug builds. Files for instruction sets that not every machine has call these functions
/// too, and of an ordinary inline function the linker keeps one copy for all: perhaps theirs.
#define RT_INLINE RT_HD __attribute__((always_inline)) inline

struct Float16 {  // IEEE 754 binary16
  std::uint16_t bits;
};

struct BFloat16 {  // the upper half of a float32
  std::uint16_t bits;
};

/// OCP FP8 E4M3, "fn": finite numbers and NaN. What is too large becomes NaN, as in ml_dtypes. PyTorch has
/// come to store 448 then, even for infinity, and an overflown gradient would no longer be seen.
struct Float8E4M3 {
  std::uint8_t bits;
};

struct Float8E5M2 {  // OCP FP8 E5M2: the upper half of a binary16
  std::uint8_t bits;
};

struct Bool {  // 0 is false, everything else is true; results are 0 or 1
  std::uint8_t bits;
};

template <class To, class From>
RT_INLINE constexpr To bits_as(From from) {
  return __builtin_bit_cast(To, from);  // std::bit_cast is no device function
}

/// How a float with fewer exponent bits than float32 is laid out, and what that is in float32's bits.
///
/// A code is what stands in memory, without its sign. Codes and magnitudes are int32, which every vector
/// instruction set can compare.
template <int kExponentBits, int kMantissaBits, std::int32_t kFirstSpecialCode>
struct SmallFloatFormat {
  static constexpr int kWidth = 1 + kExponentBits + kMantissaBits;
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kShift = 23 - kMantissaBits;  ///< from this mantissa to float32's

  static constexpr std::int32_t kSignCode = 1 << (kWidth - 1);
  static constexpr std::int32_t kFirstNormal = 1 << kMantissaBits;
  static constexpr std::int32_t kFirstSpecial = kFirstSpecialCode;  ///< infinity, or NaN where there is none

  static constexpr std::int32_t kRebias = (127 - kBias) << 23;          ///< from this exponent to float32's
  static constexpr std::int32_t kAlmostHalf = (1 << (kShift - 1)) - 1;  ///< of what a code counts in
  static constexpr std::int32_t kSmallestNormal = kRebias + (1 << 23);  ///< as a float32
  /// The power of two above which float32 numbers lie as far apart as the subnormals of this type.
  static constexpr std::int32_t kSubnormalGrid = (127 + 24 - kBias - kMantissaBits) << 23;
};

template <class T>
struct FormatOf;
template <>
struct FormatOf<Float16> : SmallFloatFormat<5, 10, 0x7C00> {};
template <>
struct FormatOf<Float8E5M2> : SmallFloatFormat<5, 2, 0x7C> {};
template <>
struct FormatOf<Float8E4M3> : SmallFloatFormat<4, 3, 0x7F> {};

template <class T>
concept SmallFloat = requires { FormatOf<T>::kShift; };  // all but bfloat16, which has float32's exponents

/// What every conversion and reduction stores for a NaN, whatever its sign and payload were: those depend on
/// the order in which a machine takes its operands, and the same inputs are to give the same bits everywhere.
template <class T>
inline constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();
template <>
inline constexpr Float16 kNaN<Float16>{0x7E00};
template <>
inline constexpr BFloat16 kNaN<BFloat16>{0x7FC0};
template <>
inline constexpr Float8E5M2 kNaN<Float8E5M2>{0x7E};
template <>
inline constexpr Float8E4M3 kNaN<Float8E4M3>{0x7F};

// widen(x): the value of x in its accumulator type, exactly.

template <class T>
  requires std::is_arithmetic_v<T>
RT_INLINE constexpr T widen(T value) {
  return value;
}

RT_INLINE constexpr Bool widen(Bool value) { return value; }

RT_INLINE constexpr float widen(BFloat16 value) {
  return bits_as<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

template <SmallFloat T>
RT_INLINE constexpr float widen(T value) {
  using Format = FormatOf<T>;
  constexpr int kShift = Format::kShift;
  // Sign-extended, so that one shift puts the sign, too, where float32 has it.
  const std::int32_t shifted = static_cast<std::make_signed_t<decltype(T::bits)>>(value.bits) << kShift;
  const std::int32_t magnitude = shifted & ((Format::kSignCode - 1) << kShift);

  // A subnormal, 0.m, comes out as half of 1.m: twice that, less 1, is 0.m. For a normal the same is no less
  // than itself. A subnormal float32, which some threads flush to zero, never appears.
  const float normal = bits_as<float>(magnitude + Format::kRebias);
  const float subnormal = (normal - bits_as<float>(Format::kSmallestNormal)) + normal;
  const auto finite = bits_as<std::int32_t>(subnormal < normal ? subnormal : normal);

  // The topmost exponents, too, are kRebias apart, once more than the others.
  const std::int32_t special = magnitude >= Format::kFirstSpecial << kShift ? Format::kRebias : 0;
  return bits_as<float>((finite + special) | (shifted & static_cast<std::int32_t>(0x80000000)));
}

/// What sums of T are kept in: float for the small floats, T itself for the others.
template <class T>
using Accumulator = decltype(widen(T{}));

// narrow<T>(x): the T nearest to x, ties to even; what is too large becomes infinity (or NaN, without one).

template <class T>
  requires std::is_floating_point_v<T>
RT_INLINE constexpr T narrow(T value) {
  return value == value ? value : kNaN<T>;
}

template <class T>
  requires(std::is_integral_v<T> || std::is_same_v<T, Bool>)
RT_INLINE constexpr T narrow(T value) {
  return value;
}

template <class T>
  requires std::is_same_v<T, BFloat16>
RT_INLINE constexpr BFloat16 narrow(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return {static_cast<std::uint16_t>(value == value ? rounded : kNaN<BFloat16>.bits)};
}

template <SmallFloat T>
RT_INLINE constexpr T narrow(float value) {
  using Format = FormatOf<T>;
  constexpr int kShift = Format::kShift;
  const auto bits = bits_as<std::int32_t>(value);
  const std::int32_t magnitude = bits & 0x7FFFFFFF;
  const std::int32_t sign = (bits >> (32 - Format::kWidth)) & Format::kSignCode;

  const std::int32_t odd = (magnitude >> kShift) & 1;
  const std::int32_t rounded = (magnitude + (Format::kAlmostHalf - Format::kRebias) + odd) >> kShift;
  const std::int32_t normal = rounded < Format::kFirstSpecial ? rounded : Format::kFirstSpecial;

  // Adding the grid's power of two rounds to the grid; what that added to its bits is the code.
  const float on_grid = bits_as<float>(magnitude) + bits_as<float>(Format::kSubnormalGrid);
  const std::int32_t subnormal = bits_as<std::int32_t>(on_grid) - Format::kSubnormalGrid;

  const std::int32_t code = (subnormal <= Format::kFirstNormal ? subnormal : normal) | sign;
  return {static_cast<decltype(T::bits)>(value == value ? code : kNaN<T>.bits)};
}

}  // namespace ringtree
