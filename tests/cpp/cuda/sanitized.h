// For tests that can do with less where everything takes ten times as long.
#pragma once

namespace ringtree::testing {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

}  // namespace ringtree::testing
