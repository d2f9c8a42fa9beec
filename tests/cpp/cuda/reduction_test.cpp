// The device's reduction against the host's, to the bit.
#include "cuda/reduction.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/reduction.h"
#include "cuda/runtime.h"
#include "cuda/sanitized.h"

namespace ringtree::testing {
namespace {

constexpr int kWorld = 7;  // no power of two, so that an average has to round
constexpr int kMostSources = 5;
constexpr unsigned kLanes = 4;
constexpr std::size_t kLargest = kIsSanitized ? 515 : 1027;  // several tiles of any type, and odd
constexpr std::size_t kCounts[] = {0, 1, 7, 33, kLargest};

/// Those, and around a pack, a pack for every lane, two and four of these, and a sweep of single elements.
std::vector<std::size_t> counts_of(DType dtype) {
  std::vector<std::size_t> all(std::begin(kCounts), std::end(kCounts));
  const std::size_t pack = sizeof(Pack) / size_of(dtype), row = kLanes * pack;
  for (const std::size_t about : {pack, row, 2 * row, 4 * row, 8UL * kLanes})
    for (const std::size_t count : {about - 1, about, about + 1}) all.push_back(count);
  return all;
}

constexpr std::size_t kSlack = 8;  // elements around a buffer

/// One run of elements to reduce.
struct Job {
  std::byte* destination;
  const void* sources[kMostSources];
  std::size_t count;
};

__global__ void reduce_kernel(DeviceReduction reduction, int n_sources, std::size_t width, const Job* jobs,
                              std::size_t n_jobs) {
  for (std::size_t i = 0; i < n_jobs; ++i) {
    reduction(jobs[i].destination, jobs[i].sources, n_sources, jobs[i].count * width);
    __syncthreads();
  }
}

__global__ void closing_kernel(DeviceReduction reduction, int n_sources, std::size_t width, const Job* jobs,
                               std::size_t n_jobs) {
  for (std::size_t i = 0; i < n_jobs; ++i) {
    reduction.closing()(jobs[i].destination, jobs[i].sources, n_sources, jobs[i].count * width);
    __syncthreads();
  }
}

/// The bits of a float's exponent; 0 for other types.
std::uint64_t exponent_of(DType dtype) {
  switch (dtype) {
    case DType::float64: return 0x7FF0'0000'0000'0000;
    case DType::float32: return 0x7F80'0000;
    case DType::float16: return 0x7C00;
    case DType::bfloat16: return 0x7F80;
    case DType::float8_e4m3fn: return 0x78;
    case DType::float8_e5m2: return 0x7C;
    default: return 0;
  }
}

/// Any bits at all; of floats every second one a zero, a subnormal, an infinity, a NaN, or near to 1.
std::uint64_t random_bits(std::mt19937_64& random, DType dtype) {
  const std::uint64_t any = random(), exponent = exponent_of(dtype);
  const std::uint64_t sign = std::uint64_t{1} << (8 * size_of(dtype) - 1), mantissa = ~exponent & (sign - 1);
  if (exponent == 0) return any;
  switch (random() % 12) {
    case 0: return any & sign;
    case 1: return any & (sign | mantissa);
    case 2: return (any & sign) | exponent;
    case 3: return any | exponent;
    case 4:
    case 5: return (any & (sign | mantissa)) | (exponent & (exponent >> 1U));  // the exponent of 1 or 2
    default: return any;
  }
}

/// Mapped memory of the host that hands out ranges and then forgets them all.
class Arena {
 public:
  explicit Arena(std::size_t bytes) : memory_(allocate_on_host(bytes, "a test")), bytes_(bytes) {}

  /// `offset` bytes behind a pack's beginning.
  std::byte* take(std::size_t bytes, std::size_t offset) {
    used_ = (used_ + sizeof(Pack) - 1) / sizeof(Pack) * sizeof(Pack) + offset;
    std::byte* const taken = memory_.get() + used_;
    used_ += bytes;
    if (used_ > bytes_) throw std::length_error("the arena is full");
    return taken;
  }
  void clear() { used_ = 0; }
  std::vector<std::byte> content() const { return {memory_.get(), memory_.get() + used_}; }
  void restore(const std::vector<std::byte>& content) const {
    std::memcpy(memory_.get(), content.data(), content.size());
  }

 private:
  HostMemory<std::byte> memory_;
  std::size_t bytes_, used_ = 0;
};

/// Where buffers begin, in elements behind a pack's beginning.
struct Alignment {
  std::size_t destination, first_source, step;

  std::size_t source(int i) const { return (first_source + step * static_cast<std::size_t>(i)) % kSlack; }
};
constexpr Alignment kAlignments[] = {{0, 0, 0}, {1, 1, 0}, {3, 0, 0}, {2, 1, 1}, {7, 7, 0}};

class DeviceReductions : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  std::size_t width() const { return size_of(dtype()); }

  std::byte* random_buffer(std::size_t count, std::size_t offset) {
    std::byte* const buffer = arena_.take(count * width(), offset * width());
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t bits = random_bits(random_, dtype());
      std::memcpy(buffer + i * width(), &bits, width());
    }
    return buffer;
  }

  /// Every count at every alignment, apart from the sources and in place of the first and the last.
  std::vector<Job> jobs(int n_sources) {
    std::vector<Job> all;
    arena_.clear();
    for (const Alignment& at : kAlignments)
      for (const std::size_t count : counts_of(dtype()))
        for (const int place : {-1, 0, n_sources - 1}) {
          Job job{nullptr, {}, count};
          for (int i = 0; i < n_sources; ++i) job.sources[i] = random_buffer(count, at.source(i));
          job.destination = place < 0 ? random_buffer(count, at.destination)
                                      : static_cast<std::byte*>(const_cast<void*>(job.sources[place]));
          all.push_back(job);
        }
    return all;
  }

  void run(bool closes, DeviceReduction reduction, int n_sources, const std::vector<Job>& jobs) const {
    const Job* pointer = jobs.data();
    std::size_t n_jobs = jobs.size(), element = width();
    void* arguments[] = {&reduction, &n_sources, &element, &pointer, &n_jobs};
    ASSERT_EQ(cudaLaunchKernel(closes ? &closing_kernel : &reduce_kernel, dim3(1), dim3(kLanes), arguments, 0,
                               nullptr),
              cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  /// One source: the host copies it as it is, and the device makes a NaN the one that all have. Nothing
  /// ends with one source, so no result differs.
  void unify_nans(const Job& job) const {
    if (is_float(dtype())) scale(dtype(), job.destination, job.destination, job.count, 1);
  }

  Arena arena_{std::size_t{4} << 20U};
  std::mt19937_64 random_{42};
};

TEST_P(DeviceReductions, GiveTheBitsOfTheHosts) {
  for (std::size_t code = 0; code < kReduceOps; ++code) {
    const auto op = static_cast<ReduceOp>(code);
    if (!supports(op, dtype())) continue;
    for (const bool closes : {false, true})
      for (int n_sources = 1; n_sources <= kMostSources; n_sources += kIsSanitized ? 2 : 1) {
        SCOPED_TRACE(std::string(name_of(op)) + (closes ? ", closing, " : ", ") + std::to_string(n_sources) +
                     " sources");
        const std::vector<Job> all = jobs(n_sources);
        const std::vector<std::byte> before = arena_.content();
        Reduction on_host(dtype(), op, kWorld);
        if (closes) on_host = on_host.closing();
        for (const Job& job : all) {
          on_host(job.destination, job.sources, n_sources, job.count);
          if (n_sources == 1) unify_nans(job);
        }
        const std::vector<std::byte> expected = arena_.content();
        arena_.restore(before);
        run(closes, DeviceReduction(dtype(), op, kWorld), n_sources, all);
        ASSERT_EQ(arena_.content(), expected);
      }
  }
}

TEST_P(DeviceReductions, ScaleAsTheHostDoes) {
  if (!is_float(dtype())) return;
  for (double factor : {0.3, -1.0, 1e300, 0.0})
    for (std::size_t count : kCounts)
      for (const bool in_place : {false, true}) {
        arena_.clear();
        std::byte* const source = random_buffer(count, 1);
        std::byte* const destination = in_place ? source : random_buffer(count, 2);
        const std::vector<std::byte> before = arena_.content();
        scale(dtype(), destination, source, count, factor);
        const std::vector<std::byte> expected = arena_.content();
        arena_.restore(before);
        DType type = dtype();
        void* to = destination;
        const void* from = source;
        void* arguments[] = {&type, &to, &from, &count, &factor};
        ASSERT_EQ(cudaLaunchKernel(&scale_kernel, dim3(3), dim3(kLanes), arguments, 0, nullptr), cudaSuccess);
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
        ASSERT_EQ(arena_.content(), expected) << count << " by " << factor;
      }
}

std::vector<DType> every_type() {
  std::vector<DType> all;
  for (std::size_t code = 0; code < kDTypes; ++code) all.push_back(static_cast<DType>(code));
  return all;
}

INSTANTIATE_TEST_SUITE_P(EveryType, DeviceReductions, ::testing::ValuesIn(every_type()),
                         [](const auto& type) { return std::string(name_of(type.param)); });

}  // namespace
}  // namespace ringtree::testing
