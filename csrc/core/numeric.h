// The number types that C++ lacks, as bits, and the way between them and the type that computes for them.
//
// Everything is branch-free integer arithmetic, so that compilers turn loops over it into vectors.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/platform.h"

namespace ringtree {

/// Inlined in debug builds too: these functions are also compiled for instruction sets that the machine may
/// lack, and a copy of one that were left for the linker to merge could be picked for everybody.
#define RT_INLINE RT_HD __attribute__((always_inline)) inline

struct Float16 {  // IEEE 754 binary16
  std::uint16_t bits;
};

struct BFloat16 {  // the upper half of a float32
  std::uint16_t bits;
};

struct Float8E4M3 {  // OCP FP8 E4M3, "fn": finite, without infinities, one NaN for each sign
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

/// How a float with fewer exponent bits than float32 is laid out, and what that means in float32's bits.
/// All codes and bits below are magnitudes (the sign apart) and fit an int32, whose comparisons every
/// instruction set has.
template <class Storage, int kExponentBits, int kMantissaBits, std::int32_t kFirstSpecialCode>
struct SmallFloatLayout {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kWidth = 1 + kExponentBits + kMantissaBits;
  static constexpr int kShift = 23 - kMantissaBits;  // from this mantissa to float32's

  static constexpr std::int32_t kSignCode = 1 << (kWidth - 1);
  static constexpr std::int32_t kFirstSpecial = kFirstSpecialCode;  // infinity, or NaN where there is none

  static constexpr std::int32_t kRebias = (127 - kBias) << 23;  // from this exponent to float32's
  static constexpr std::int32_t kSmallestNormal = kRebias + (1 << 23);
  /// The power of two whose float32 neighbours are as far apart as this type's subnormals.
  static constexpr std::int32_t kSubnormalGrid = (127 + 24 - kBias - kMantissaBits) << 23;

  static_assert(sizeof(Storage) * 8 == kWidth);
};

template <class Storage>
struct LayoutOf {};
template <>
struct LayoutOf<Float16> : SmallFloatLayout<Float16, 5, 10, 0x7C00> {};
template <>
struct LayoutOf<Float8E5M2> : SmallFloatLayout<Float8E5M2, 5, 2, 0x7C> {};
template <>
struct LayoutOf<Float8E4M3> : SmallFloatLayout<Float8E4M3, 4, 3, 0x7F> {};

/// The quiet NaN that every conversion and reduction stores for a NaN, whatever its payload was: payloads
/// depend on the order of a machine's operands, and the same inputs must give the same bits everywhere.
template <class T>
inline constexpr T kNaN{};
template <>
inline constexpr Float16 kNaN<Float16>{0x7E00};
template <>
inline constexpr BFloat16 kNaN<BFloat16>{0x7FC0};
template <>
inline constexpr Float8E5M2 kNaN<Float8E5M2>{0x7E};
template <>
inline constexpr Float8E4M3 kNaN<Float8E4M3>{0x7F};
template <>
inline constexpr float kNaN<float> = __builtin_nanf("");
template <>
inline constexpr double kNaN<double> = __builtin_nan("");

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

template <class T, class Layout = LayoutOf<T>, int kShift = Layout::kShift>
RT_INLINE constexpr float widen(T value) {
  // Sign-extended, so that one shift puts the sign, too, where float32 has it.
  const std::int32_t shifted = static_cast<std::make_signed_t<decltype(T::bits)>>(value.bits) << kShift;
  const std::int32_t magnitude = shifted & ((Layout::kSignCode - 1) << kShift);

  // A subnormal 0.m reads as half of 1.m here; twice that less 1 is 0.m, and more than the number itself for
  // normals. No subnormal float32 appears, which a thread that flushes those to zero would lose.
  const float normal = bits_as<float>(magnitude + Layout::kRebias);
  const float subnormal = (normal - bits_as<float>(Layout::kSmallestNormal)) + normal;
  const auto finite = bits_as<std::int32_t>(subnormal < normal ? subnormal : normal);

  // Both types' top exponents are again kRebias apart.
  const std::int32_t special = magnitude >= Layout::kFirstSpecial << kShift ? Layout::kRebias : 0;
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

template <class T, class Layout = LayoutOf<T>, int kShift = Layout::kShift>
RT_INLINE constexpr T narrow(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int32_t>(bits & 0x7FFFFFFF);
  const auto sign = static_cast<std::int32_t>(bits >> (32 - Layout::kWidth)) & Layout::kSignCode;

  const std::int32_t half_or_less = (1 << (kShift - 1)) - 1 + ((magnitude >> kShift) & 1);
  std::int32_t code = (magnitude - Layout::kRebias + half_or_less) >> kShift;
  code = code > Layout::kFirstSpecial ? Layout::kFirstSpecial : code;

  const float on_grid = bits_as<float>(magnitude) + bits_as<float>(Layout::kSubnormalGrid);  // rounds
  const std::int32_t subnormal = bits_as<std::int32_t>(on_grid) - Layout::kSubnormalGrid;

  code = magnitude < Layout::kSmallestNormal ? subnormal : code;
  return {static_cast<decltype(T::bits)>(value == value ? code | sign : kNaN<T>.bits)};
}

}  // namespace ringtree
