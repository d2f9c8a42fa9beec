// Copies by a block's lanes against memcpy, at every alignment, while another block writes all around.
#include "cuda/copy.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/platform.h"
#include "cuda/runtime.h"
#include "cuda/sanitized.h"

namespace ringtree::testing {
namespace {

constexpr unsigned kLanes = 4;
constexpr std::size_t kSweep =
    8 * kLanes * sizeof(Pack);                     // of copies that are aligned alike; of others a half
constexpr std::size_t kMargin = 2 * sizeof(Pack);  // on each side of what is copied

/// A copy, and where its two ranges with their margins begin. Those are multiples of packs.
struct Copy {
  std::byte *to_area, *from_area;
  std::size_t to_offset, from_offset, bytes;

  std::byte* to() const { return to_area + kMargin + to_offset; }
  std::byte* from() const { return from_area + kMargin + from_offset; }
  std::size_t area_bytes() const { return area_bytes_of(bytes); }
  static std::size_t area_bytes_of(std::size_t bytes) {
    return (2 * kMargin + sizeof(Pack) + bytes + sizeof(Pack) - 1) / sizeof(Pack) * sizeof(Pack);
  }
};

/// New values for all of an area but the range of `bytes` bytes from `range` on.
void write_around(std::byte* area, std::size_t area_bytes, const std::byte* range, std::size_t bytes,
                  unsigned lane, unsigned lanes) {
  for (std::size_t i = lane; i < area_bytes; i += lanes)
    if (area + i < range || area + i >= range + bytes) area[i] ^= std::byte{0xFF};
}

/// The first block copies; the second one is the peers, whose memory lies beside.
__global__ void copy_kernel(const Copy* copies, std::size_t count) {
  for (const Copy* copy = copies; copy < copies + count; ++copy)
    if (blockIdx.x == 0) {
      copy_lanes(copy->to(), copy->from(), copy->bytes);
    } else {
      write_around(copy->to_area, copy->area_bytes(), copy->to(), copy->bytes, threadIdx.x, blockDim.x);
      write_around(copy->from_area, copy->area_bytes(), copy->from(), copy->bytes, threadIdx.x, blockDim.x);
    }
}

/// Around all that can be a pack, a pack for every lane, or a sweep, with and without edges.
std::vector<std::size_t> sizes() {
  std::vector<std::size_t> all{0, 1, 2, 3, 7, 8};
  for (const std::size_t about :
       {sizeof(Pack), 2 * sizeof(Pack), 3 * sizeof(Pack), kLanes * sizeof(Pack), kSweep / 2, kSweep,
        kSweep / 2 + 2 * sizeof(Pack), kSweep + 2 * sizeof(Pack)})
    for (const std::size_t size : {about - 1, about, about + 1}) all.push_back(size);
  for (const std::size_t size : {2 * kSweep - 1, 3 * kSweep + 5}) all.push_back(size);
  return all;
}

TEST(CopyLanes, CopyAsMemcpyDoesAndTouchNothingElse) {
  std::size_t most_bytes = 0;
  for (const std::size_t bytes : sizes()) most_bytes += 2 * sizeof(Pack) * Copy::area_bytes_of(bytes);
  const auto memory = allocate_on_host(most_bytes, "a test");
  for (std::size_t to_offset = 0; to_offset < sizeof(Pack); to_offset += kIsSanitized ? 5 : 1) {
    std::vector<Copy> copies;
    std::byte* next = memory.get();
    for (std::size_t from_offset = 0; from_offset < sizeof(Pack); ++from_offset)
      for (const std::size_t bytes : sizes()) {
        std::byte* const other = next + Copy::area_bytes_of(bytes);
        copies.push_back({next, other, to_offset, from_offset, bytes});
        next = other + Copy::area_bytes_of(bytes);
      }
    const auto used = static_cast<std::size_t>(next - memory.get());
    ASSERT_LE(used, most_bytes);
    for (std::size_t i = 0; i < used; ++i) memory.get()[i] = static_cast<std::byte>(i * 31 + i / 251);

    const std::vector<std::byte> before(memory.get(), next);
    for (const Copy& copy : copies) {
      std::memcpy(copy.to(), copy.from(), copy.bytes);
      write_around(copy.to_area, copy.area_bytes(), copy.to(), copy.bytes, 0, 1);
      write_around(copy.from_area, copy.area_bytes(), copy.from(), copy.bytes, 0, 1);
    }
    const std::vector<std::byte> expected(memory.get(), next);
    std::memcpy(memory.get(), before.data(), used);

    const Copy* pointer = copies.data();
    std::size_t count = copies.size();
    void* arguments[] = {&pointer, &count};
    ASSERT_EQ(cudaLaunchKernel(&copy_kernel, dim3(2), dim3(kLanes), arguments, 0, nullptr), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    for (const Copy& copy : copies)
      for (const std::byte* area : {copy.to_area, copy.from_area})
        ASSERT_EQ(std::memcmp(area, expected.data() + (area - memory.get()), copy.area_bytes()), 0)
            << copy.bytes << " bytes from " << copy.from_offset << " to " << copy.to_offset;
  }
}

}  // namespace
}  // namespace ringtree::testing
