// What the small floats mean, independently of csrc/core/numeric.h: values from sign, exponent and mantissa
// in double, rounding by looking for the nearest value in the list of them all.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/numeric.h"

namespace ringtree {

struct SmallFloatReference {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;
  unsigned nan;                  ///< the code that stands for every NaN
  std::vector<double> values{};  ///< of the codes 0, 1, 2, ... up to one beyond the largest finite number

  SmallFloatReference(int exponent, int mantissa, bool infinity, unsigned nan_code)
      : exponent_bits(exponent), mantissa_bits(mantissa), has_infinity(infinity), nan(nan_code) {
    for (unsigned code = 0; code <= first_special(); ++code) values.push_back(magnitude(code));
  }

  unsigned sign_bit() const { return 1U << (exponent_bits + mantissa_bits); }

  /// IEEE 754 gives the whole top exponent to infinity and NaN; E4M3FN only its last code to NaN.
  unsigned first_special() const {
    return has_infinity ? sign_bit() - (1U << mantissa_bits) : sign_bit() - 1;
  }

  double value(unsigned code) const {
    const unsigned without_sign = code & (sign_bit() - 1);
    double value = 0;
    if (without_sign < first_special())
      value = values[without_sign];
    else if (has_infinity && without_sign == first_special())
      value = std::numeric_limits<double>::infinity();
    else
      value = std::numeric_limits<double>::quiet_NaN();
    return (code & sign_bit()) != 0 ? -value : value;
  }

  /// The code nearest to `value`, of two equally near ones the even one. Beyond the largest finite number
  /// the scale goes on for one step, and what is nearest to that overflows.
  unsigned nearest(double value) const {
    if (std::isnan(value)) return nan;
    const unsigned sign = std::signbit(value) ? sign_bit() : 0;
    const auto above = std::lower_bound(values.begin(), values.end(), std::fabs(value));
    auto code = static_cast<unsigned>(above - values.begin());
    if (above == values.end()) return sign | first_special();
    if (code != 0) {
      const double up = values[code] - std::fabs(value), down = std::fabs(value) - values[code - 1];
      if (down < up || (down == up && code % 2 == 1)) --code;
    }
    return sign | code;
  }

 private:
  double magnitude(unsigned code) const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const auto exponent = static_cast<int>(code >> mantissa_bits);
    const double fraction = std::ldexp(code & ((1U << mantissa_bits) - 1), -mantissa_bits);
    return exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  }
};

template <class Storage>
const SmallFloatReference& reference_of();
template <>
inline const SmallFloatReference& reference_of<Float16>() {
  static const SmallFloatReference reference(5, 10, true, 0x7E00);
  return reference;
}
template <>
inline const SmallFloatReference& reference_of<BFloat16>() {
  static const SmallFloatReference reference(8, 7, true, 0x7FC0);
  return reference;
}
template <>
inline const SmallFloatReference& reference_of<Float8E4M3>() {
  static const SmallFloatReference reference(4, 3, false, 0x7F);
  return reference;
}
template <>
inline const SmallFloatReference& reference_of<Float8E5M2>() {
  static const SmallFloatReference reference(5, 2, true, 0x7E);
  return reference;
}

}  // namespace ringtree
