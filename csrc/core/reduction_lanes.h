// How the reduction loops read and write elements: one at a time, which the compiler vectorises, or float16 a
// vector at a time where the machine has instructions for it, which GCC 12 does not find by itself: with two
// sources 5 (AVX-512) to 7 times (AVX2) as fast as vectorised arithmetic on the bits.
//
// A part of reduction_loops.h; see there for the namespaces.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) || defined(__F16C__)
#define RINGTREE_CONVERTS_FLOAT16
#include <immintrin.h>
#endif

#include "core/numeric.h"

namespace ringtree::RINGTREE_LOOPS {
namespace {

/// An element in a caller's buffer, at any address.
template <class T>
struct [[gnu::packed]] Unaligned {
  T value;
};

/// A result under way, in its accumulator type and not yet rounded.
template <class T>
struct Partial {
  Accumulator<T> value;
};

template <class T>
RT_INLINE Accumulator<T> load(const Unaligned<T>* from) {
  return widen(from->value);
}

template <class T>
RT_INLINE Accumulator<T> load(const Partial<T>* from) {
  return from->value;
}

template <class T>
RT_INLINE void store(Unaligned<T>* to, Accumulator<T> value) {
  to->value = narrow<T>(value);
}

template <class T>
RT_INLINE void store(Partial<T>* to, Accumulator<T> value) {
  to->value = value;
}

#if defined(__AVX512F__)

// The maskz forms, because GCC 12 warns of the plain ones' own headers (its bug 105593).
using Lanes = __m512;
using Float16Lanes = __m256i;
RT_INLINE Lanes widen_lanes(Float16Lanes lanes) { return _mm512_maskz_cvtph_ps(0xFFFF, lanes); }
RT_INLINE Float16Lanes narrow_lanes(Lanes lanes) {
  return _mm512_maskz_cvtps_ph(0xFFFF, lanes, _MM_FROUND_TO_NEAREST_INT);
}

#elif defined(__F16C__)

using Lanes = __m256;
using Float16Lanes = __m128i;
RT_INLINE Lanes widen_lanes(Float16Lanes lanes) { return _mm256_cvtph_ps(lanes); }
RT_INLINE Float16Lanes narrow_lanes(Lanes lanes) { return _mm256_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT); }

#endif

/// How many elements of T the lanes below hold; 0 where the compiler does without them.
#ifdef RINGTREE_CONVERTS_FLOAT16

template <class T>
constexpr std::size_t kLanes = std::is_same_v<T, Float16> ? sizeof(Lanes) / sizeof(float) : 0;

RT_INLINE Lanes load_lanes(const Unaligned<Float16>* from) {
  Float16Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return widen_lanes(lanes);
}

RT_INLINE Lanes load_lanes(const Partial<Float16>* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

RT_INLINE void store(Unaligned<Float16>* to, Lanes lanes) {
  const Float16Lanes narrowed = narrow_lanes(lanes == lanes ? lanes : Lanes{} + kNaN<float>);
  std::memcpy(to, &narrowed, sizeof narrowed);
}

RT_INLINE void store(Partial<Float16>* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

#else

template <class T>
constexpr std::size_t kLanes = 0;

#endif

}  // namespace
}  // namespace ringtree::RINGTREE_LOOPS
