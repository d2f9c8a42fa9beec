#include "cuda/staging.h"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/kept.h"

namespace ringtree {
namespace {

constexpr const char* kWhat = "the links of a communicator in memory of the host";

/// What a thread offers.
struct Part {
  std::byte* memory;
};

/// What the first rank calls the segment.
using SegmentName = std::array<char, 256>;

/// Lasts until all ranks have mapped the segment, or one cannot.
struct Named {
  Transport* transport;
  std::string name;

  explicit Named(Transport& transport_) : transport(&transport_) {}
  Named(const Named&) = delete;
  Named& operator=(const Named&) = delete;
  ~Named() {
    if (!name.empty()) transport->forget(name);
  }
};

}  // namespace

StagedLinks::StagedLinks(const std::vector<Introduction>& ranks, int rank, std::size_t bytes,
                         const GpuLibrary::Exchange& exchange, Transport& transport)
    : bytes_(bytes) {
  if (std::all_of(ranks.begin(), ranks.end(), &is_near)) {
    const auto offer = [&] {
      own_ = allocate_on_host(bytes, kWhat);
      return Part{own_.get()};
    };
    for (const Part& theirs : exchange_words(exchange, rank, offer)) memories_.push_back(theirs.memory);
    return;
  }
  Named segment(transport);
  const std::size_t all_bytes = bytes * ranks.size();
  const SegmentName name = exchange_words(exchange, rank, [&] {
    SegmentName own{};
    if (rank != 0) return own;
    std::tie(segment.name, segment_) = transport.create(all_bytes);
    std::copy_n(segment.name.begin(), std::min(segment.name.size(), own.size() - 1), own.begin());
    return own;
  })[0];
  exchange_words(exchange, rank, [&] {
    if (rank != 0) segment_ = transport.open(name.data(), all_bytes);
    map_segment(bytes, ranks.size());
    return Acceptance{true};
  });
}

void StagedLinks::map_segment(std::size_t bytes, std::size_t world) {
  check_cuda(
      cudaHostRegister(segment_->data(), segment_->size(), cudaHostRegisterPortable | cudaHostRegisterMapped),
      kWhat);
  on_gpus_.reset(segment_->data());
  void* first = nullptr;
  check_cuda(cudaHostGetDevicePointer(&first, segment_->data(), 0), kWhat);
  for (std::size_t rank = 0; rank < world; ++rank)
    memories_.push_back(static_cast<std::byte*>(first) + rank * bytes);
}

void StagedLinks::keep_memory() {
  if (own_) keep(std::move(own_), bytes_);
}

}  // namespace ringtree
