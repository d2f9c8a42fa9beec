// A copy that leaves the caches to others: what it writes goes straight to memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace ringtree {

/// How something is written: with its lines in this core's caches, or past them.
enum class Store { cached, streamed };

/// From so many bytes on it pays to stream: docs/measuring.md.
inline constexpr std::size_t kStreamBytes = std::size_t{8} << 20;

/// Until then other stores may overtake streamed ones.
inline void end_streaming() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

/// stream_copy() without the end_streaming() that has to follow.
inline void stream_lines(void* destination, const void* source, std::size_t bytes) {
  auto* to = static_cast<std::byte*>(destination);
  const auto* from = static_cast<const std::byte*>(source);
#ifdef __SSE2__
  constexpr std::size_t kLine = 64;
  const std::size_t head = (kLine - reinterpret_cast<std::uintptr_t>(to) % kLine) % kLine;
  if (bytes >= head + kLine) {
    std::memcpy(to, from, head);
    const std::size_t end = head + (bytes - head) / kLine * kLine;
    for (std::size_t line = head; line < end; line += kLine) {
      const auto* source_line = reinterpret_cast<const __m128i*>(from + line);
      auto* target_line = reinterpret_cast<__m128i*>(to + line);
      const __m128i first = _mm_loadu_si128(source_line), second = _mm_loadu_si128(source_line + 1);
      const __m128i third = _mm_loadu_si128(source_line + 2), fourth = _mm_loadu_si128(source_line + 3);
      _mm_stream_si128(target_line, first);
      _mm_stream_si128(target_line + 1, second);
      _mm_stream_si128(target_line + 2, third);
      _mm_stream_si128(target_line + 3, fourth);
    }
    to += end;
    from += end;
    bytes -= end;
  }
#endif
  if (bytes != 0) std::memcpy(to, from, bytes);
}

/// Like memcpy. A cache that takes a written line reads it from memory first; where a copy is so large that
/// it will not be found in a cache anyway, that is a third of the traffic for nothing.
inline void stream_copy(void* destination, const void* source, std::size_t bytes) {
  stream_lines(destination, source, bytes);
  end_streaming();
}

}  // namespace ringtree
