// The port: what differs between a host compiler and a CUDA one. The only file that may ask.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>

#ifdef __CUDACC__
#define RT_HD __host__ __device__
#define RT_NOINLINE __noinline__
#else
#define RT_HD
#define RT_NOINLINE
#endif

namespace ringtree {

enum class Order { relaxed, acquire, release, seq_cst };

inline constexpr Order relaxed = Order::relaxed;
inline constexpr Order acquire = Order::acquire;
inline constexpr Order release = Order::release;
inline constexpr Order seq_cst = Order::seq_cst;

inline constexpr std::size_t kCacheLine = 64;

#ifdef RINGTREE_OBSERVE_LOADS
/// For tests that want to know what a wait has looked at.
inline const void* last_loaded_word = nullptr;
#endif

/// Names the order in which two ranks see one word of memory that both can reach.
///
/// std::atomic_ref would serve the host alone: on the device its headers drag in most of libcu++, and a CPU
/// build would then need CUDA files. `Word` is std::uint32_t or std::uint64_t.
template <class Word>
class AtomicRef {
 public:
  RT_HD explicit AtomicRef(Word& word) : word_(&word) {}

  RT_HD Word load(Order order) const {
#ifdef RINGTREE_OBSERVE_LOADS
    last_loaded_word = word_;
#endif
#ifdef __CUDA_ARCH__
    Word value;
    if constexpr (sizeof(Word) == 8) {
      if (order == Order::relaxed)
        asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word_) : "memory");
      else
        asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word_) : "memory");
    } else {
      if (order == Order::relaxed)
        asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word_) : "memory");
      else
        asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word_) : "memory");
    }
    return value;
#else
    switch (order) {
      case Order::relaxed: return __atomic_load_n(word_, __ATOMIC_RELAXED);
      case Order::seq_cst: return __atomic_load_n(word_, __ATOMIC_SEQ_CST);
      default: return __atomic_load_n(word_, __ATOMIC_ACQUIRE);
    }
#endif
  }

  RT_HD void store(Word value, Order order) const {
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(Word) == 8) {
      if (order == Order::relaxed)
        asm volatile("st.relaxed.sys.global.u64 [%0], %1;" : : "l"(word_), "l"(value) : "memory");
      else
        asm volatile("st.release.sys.global.u64 [%0], %1;" : : "l"(word_), "l"(value) : "memory");
    } else {
      if (order == Order::relaxed)
        asm volatile("st.relaxed.sys.global.u32 [%0], %1;" : : "l"(word_), "r"(value) : "memory");
      else
        asm volatile("st.release.sys.global.u32 [%0], %1;" : : "l"(word_), "r"(value) : "memory");
    }
#else
    switch (order) {
      case Order::relaxed: __atomic_store_n(word_, value, __ATOMIC_RELAXED); break;
      case Order::seq_cst: __atomic_store_n(word_, value, __ATOMIC_SEQ_CST); break;
      default: __atomic_store_n(word_, value, __ATOMIC_RELEASE);
    }
#endif
  }

 private:
  Word* word_;
};

/// Tells the core that this thread is only waiting.
RT_HD inline void relax() {
#if defined(__CUDA_ARCH__)
  __nanosleep(20);
#elif defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Nanoseconds of a clock that all blocks of a device, or all threads of a host, read alike.
RT_HD inline std::uint64_t port_clock_ns() {
#ifdef __CUDA_ARCH__
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
#else
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
#endif
}

/// What one lane loads or stores at once. In memory it is aligned to its size.
struct alignas(16) Pack {
  std::uint32_t words[4];
};

/// Whose memory it is: the device's at large, or perhaps that of the running block, which takes the device a
/// look at each address.
enum class Where { global, anywhere };

/// Into `pack`, if it is `wanted`: a branch around a load would cost the registers of a second pack.
template <Where kWhere = Where::global>
RT_HD inline void load_pack_if(bool wanted, Pack& pack, const void* from) {
#ifdef __CUDA_ARCH__
  if constexpr (kWhere == Where::global)
    asm volatile("{\n .reg .pred p;\n setp.ne.u32 p, %5, 0;\n @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
                 : "+r"(pack.words[0]), "+r"(pack.words[1]), "+r"(pack.words[2]), "+r"(pack.words[3])
                 : "l"(from), "r"(std::uint32_t{wanted})
                 : "memory");
  else
    asm volatile("{\n .reg .pred p;\n setp.ne.u32 p, %5, 0;\n @p ld.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
                 : "+r"(pack.words[0]), "+r"(pack.words[1]), "+r"(pack.words[2]), "+r"(pack.words[3])
                 : "l"(from), "r"(std::uint32_t{wanted})
                 : "memory");
#else
  if (wanted) std::memcpy(&pack, from, sizeof(pack));
#endif
}

/// Half of a packet's words are its flag, one in each 8 bytes, which always arrive together: whoever sees
/// both flags has the data beside them.
RT_HD inline void store_packet(void* to, std::uint32_t first, std::uint32_t second, std::uint32_t flag) {
  const std::uint64_t high = std::uint64_t{flag} << 32;
#ifdef __CUDA_ARCH__
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};"
               :
               : "l"(to), "l"(first | high), "l"(second | high)
               : "memory");
#else
  auto* const halves = static_cast<std::uint64_t*>(to);
  __atomic_store_n(halves, first | high, __ATOMIC_RELAXED);
  __atomic_store_n(halves + 1, second | high, __ATOMIC_RELAXED);
#endif
}

/// False: the packet with this flag is not there yet.
RT_HD inline bool load_packet(const void* from, std::uint32_t flag, std::uint32_t& first,
                              std::uint32_t& second) {
  std::uint64_t one = 0, other = 0;
#ifdef __CUDA_ARCH__
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(one), "=l"(other)
               : "l"(from)
               : "memory");
#else
  const auto* const halves = static_cast<const std::uint64_t*>(from);
  one = __atomic_load_n(halves, __ATOMIC_RELAXED);
  other = __atomic_load_n(halves + 1, __ATOMIC_RELAXED);
#endif
  first = static_cast<std::uint32_t>(one);
  second = static_cast<std::uint32_t>(other);
  return one >> 32 == flag && other >> 32 == flag;
}

/// The last word of a line is its flag. Between GPUs that NVLink joins, and on one, the 16 bytes arrive
/// together: PTX has them as one access. The host keeps their order instead.
RT_HD inline void store_line(void* to, const std::uint32_t (&data)[3], std::uint32_t flag) {
#ifdef __CUDA_ARCH__
  const std::uint64_t low = data[0] | std::uint64_t{data[1]} << 32;
  const std::uint64_t high = data[2] | std::uint64_t{flag} << 32;
  asm volatile("{\n .reg .b128 line;\n mov.b128 line, {%1, %2};\n st.relaxed.sys.global.b128 [%0], line;\n}"
               :
               : "l"(to), "l"(low), "l"(high)
               : "memory");
#else
  auto* const words = static_cast<std::uint32_t*>(to);
  for (int i = 0; i < 3; ++i) __atomic_store_n(words + i, data[i], __ATOMIC_RELAXED);
  __atomic_store_n(words + 3, flag, __ATOMIC_RELEASE);
#endif
}

/// False: the line with this flag is not there yet.
RT_HD inline bool load_line(const void* from, std::uint32_t flag, std::uint32_t (&data)[3]) {
#ifdef __CUDA_ARCH__
  std::uint64_t low, high;
  asm volatile("{\n .reg .b128 line;\n ld.relaxed.sys.global.b128 line, [%2];\n mov.b128 {%0, %1}, line;\n}"
               : "=l"(low), "=l"(high)
               : "l"(from)
               : "memory");
  data[0] = static_cast<std::uint32_t>(low);
  data[1] = static_cast<std::uint32_t>(low >> 32);
  data[2] = static_cast<std::uint32_t>(high);
  return static_cast<std::uint32_t>(high >> 32) == flag;
#else
  const auto* const words = static_cast<const std::uint32_t*>(from);
  if (__atomic_load_n(words + 3, __ATOMIC_ACQUIRE) != flag) return false;
  for (int i = 0; i < 3; ++i) data[i] = __atomic_load_n(words + i, __ATOMIC_RELAXED);
  return true;
#endif
}

/// Two words at a multiple of 16 bytes: whoever sees the first has the second, or a later one.
RT_HD inline void store_pair(std::uint64_t* to, std::uint64_t first, std::uint64_t second) {
#ifdef __CUDA_ARCH__
  asm volatile("{\n .reg .b128 pair;\n mov.b128 pair, {%1, %2};\n st.relaxed.sys.global.b128 [%0], pair;\n}"
               :
               : "l"(to), "l"(first), "l"(second)
               : "memory");
#else
  __atomic_store_n(to + 1, second, __ATOMIC_RELAXED);
  __atomic_store_n(to, first, __ATOMIC_RELEASE);
#endif
}

/// Whether memory is the device's at large.
RT_HD inline bool is_global([[maybe_unused]] const void* memory) {
#ifdef __CUDA_ARCH__
  std::uint32_t is;  // __isGlobal() breaks CUDA 13.0's compiler where it knows a pointer's type
  asm("{\n .reg .pred p;\n isspacep.global p, %1;\n selp.u32 %0, 1, 0, p;\n}" : "=r"(is) : "l"(memory));
  return is != 0;
#else
  return true;
#endif
}

#ifdef __CUDACC__
/// The memory of the running block, as much as its launch has asked for.
__device__ inline std::byte* block_memory() {
  extern __shared__ Pack dynamic_memory[];
  return reinterpret_cast<std::byte*>(dynamic_memory);
}
#endif

template <Where kWhere = Where::global>
RT_HD inline void store_pack(void* to, const Pack& pack) {
#ifdef __CUDA_ARCH__
  if constexpr (kWhere == Where::global)
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(pack.words[0]), "r"(pack.words[1]), "r"(pack.words[2]), "r"(pack.words[3])
                 : "memory");
  else
    asm volatile("st.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(pack.words[0]), "r"(pack.words[1]), "r"(pack.words[2]), "r"(pack.words[3])
                 : "memory");
#else
  std::memcpy(to, &pack, sizeof(pack));
#endif
}

}  // namespace ringtree
