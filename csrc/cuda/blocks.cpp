#include "cuda/blocks.h"

#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "core/platform.h"
#include "cuda/driver.h"

namespace ringtree {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(GpuBlockTable::Entry::handle));
static_assert(GpuBlockTable::kChunks <= GpuBlockTable::kBlocks, "MappedBlocks has room for all runs");

/// While one lives its thread may open and map memory, also while a stream is being captured. That memory is
/// not part of the graph: CUDA would count it as a mistake of the program's, and end the capture.
class MappingInCapture {
 public:
  MappingInCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  MappingInCapture(const MappingInCapture&) = delete;
  MappingInCapture& operator=(const MappingInCapture&) = delete;
  ~MappingInCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  ///< and then what it was before
};

/// An allocation. Another one may begin at the same address later; it has another identity.
struct Allocation {
  std::uintptr_t base;
  std::uint64_t identity;
};

std::optional<Allocation> allocation_of(const void* memory) {
  static const auto address_range = driver_function<decltype(cuMemGetAddressRange)>("cuMemGetAddressRange");
  static const auto attribute = driver_function<decltype(cuPointerGetAttribute)>("cuPointerGetAttribute");
  if (memory == nullptr || address_range == nullptr || attribute == nullptr) return std::nullopt;
  const auto address = static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(memory));
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  unsigned long long identity = 0;
  if (address_range(&base, &bytes, address) != CUDA_SUCCESS || bytes < kSmallestMappedBytes)
    return std::nullopt;
  if (attribute(&identity, CU_POINTER_ATTRIBUTE_BUFFER_ID, address) != CUDA_SUCCESS) return std::nullopt;
  return Allocation{static_cast<std::uintptr_t>(base), identity};
}

}  // namespace

bool is_plain(const void* memory) {
  static const auto attribute = driver_function<decltype(cuPointerGetAttribute)>("cuPointerGetAttribute");
  if (memory == nullptr) return true;
  if (attribute == nullptr) return false;
  const auto address = static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(memory));
  int is_capable = 0;
  return attribute(&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, address) == CUDA_SUCCESS &&
         is_capable != 0;
}

SharedBlocks::SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near, HostShare& own)
    : tables_(tables),
      rank_(static_cast<std::size_t>(rank)),
      is_near_(std::move(is_near)),
      own_(&own),
      mapped_(is_near_.size()) {
  tables_[rank_].owner = mark_of_this_process();
}

void SharedBlocks::describe(DeviceOffer& offer, std::size_t in_bytes, std::size_t out_bytes) {
  const MappingInCapture allowed;
  const bool is_one = offer.out == offer.in;
  offer.in_place = place_of(offer.in, is_one ? std::max(in_bytes, out_bytes) : in_bytes);
  offer.out_place = is_one ? offer.in_place : place_of(offer.out, out_bytes);
  for (std::size_t peer = 0; peer < is_near_.size(); ++peer) {
    if (!is_near_[peer]) {
      map_new_allocations(peer);
      map_new_runs(peer);
    }
    offer.known[kAllocation][peer] = static_cast<std::uint32_t>(mapped_[peer].allocations.size());
    offer.known[kRun][peer] = static_cast<std::uint32_t>(mapped_[peer].runs.size());
  }
}

BufferPlace SharedBlocks::place_of(const void* memory, std::size_t bytes) {
  if (const std::optional<Allocation> allocation = allocation_of(memory)) {
    const std::uint32_t number = number_of(allocation->base, allocation->identity);
    if (number != 0)
      return {reinterpret_cast<std::uintptr_t>(memory) - allocation->base, number, kAllocation};
  }
  return place_in_run(memory, std::max(bytes, std::size_t{1}));
}

std::uint32_t SharedBlocks::number_of(std::uintptr_t base, std::uint64_t identity) {
  const auto [found, is_new] = numbers_.try_emplace(identity, 0);
  GpuBlockTable& table = tables_[rank_];
  const std::uint64_t count = AtomicRef(table.count).load(relaxed);
  if (!is_new || count == GpuBlockTable::kBlocks) return found->second;
  cudaIpcMemHandle_t handle{};
  if (cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(base)) != cudaSuccess) {
    cudaGetLastError();  // memory of a pool or of cuMemMap: it has no such handle
    return 0;
  }
  std::memcpy(table.entries[count].handle, &handle, sizeof(handle));
  AtomicRef(table.count).store(count + 1, release);  // pairs with: the load in map_new_allocations()
  found->second = static_cast<std::uint32_t>(count + 1);
  return found->second;
}

/// In a run that has all of its chunks, or a new one of just these.
BufferPlace SharedBlocks::place_in_run(const void* memory, std::size_t bytes) {
  std::vector<Chunk> chunks = chunks_of(memory, bytes, GpuBlockTable::kChunks);
  if (chunks.empty()) return {};
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const auto is_same = [](const SharedChunk& shared, const Chunk& chunk) {
    return shared.chunk.base == chunk.base && shared.chunk.bytes == chunk.bytes &&
           shared.chunk.handle.value() == chunk.handle.value();
  };
  const GpuBlockTable& table = tables_[rank_];
  for (std::uint32_t i = 0; i < table.run_count; ++i) {
    const auto run = std::span(chunks_).subspan(table.runs[i].first, table.runs[i].chunks);
    if (std::search(run.begin(), run.end(), chunks.begin(), chunks.end(), is_same) != run.end())
      return {address - run.front().chunk.base, i + 1, kRun};
  }
  const std::uintptr_t base = chunks.front().base;
  return {address - base, number_of_run(std::move(chunks)), kRun};
}

std::uint32_t SharedBlocks::number_of_run(std::vector<Chunk> chunks) {
  if (chunks_.size() + chunks.size() > GpuBlockTable::kChunks) return 0;
  std::vector<SharedChunk> shared;
  for (Chunk& chunk : chunks) {
    Descriptor descriptor = exported(chunk);
    if (descriptor.number() < 0) return 0;
    shared.push_back({std::move(chunk), std::move(descriptor)});
  }
  GpuBlockTable& table = tables_[rank_];
  const std::uint64_t count = table.run_count;
  table.runs[count] = {static_cast<std::uint32_t>(chunks_.size()), static_cast<std::uint32_t>(shared.size())};
  for (SharedChunk& each : shared) {
    table.chunks[chunks_.size()] = {each.chunk.bytes, each.descriptor.number()};
    chunks_.push_back(std::move(each));
  }
  AtomicRef(table.run_count).store(count + 1, release);  // pairs with: the load in map_new_runs()
  return static_cast<std::uint32_t>(count + 1);
}

/// In the peer's order, so that one number says what is mapped. What cannot be mapped ends that.
void SharedBlocks::map_new_allocations(std::size_t peer) {
  GpuBlockTable& table = tables_[peer];
  std::vector<PeerMemory>& mapped = mapped_[peer].allocations;
  for (const std::uint64_t count = AtomicRef(table.count).load(acquire); mapped.size() < count;) {
    cudaIpcMemHandle_t handle{};
    std::memcpy(&handle, table.entries[mapped.size()].handle, sizeof(handle));
    void* memory = nullptr;
    if (cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess) {
      cudaGetLastError();
      return;
    }
    own_->blocks[peer].bases[kAllocation][mapped.size()] = static_cast<std::byte*>(memory);
    mapped.emplace_back(static_cast<std::byte*>(memory));
  }
}

/// The same for runs.
void SharedBlocks::map_new_runs(std::size_t peer) {
  GpuBlockTable& table = tables_[peer];
  std::vector<MappedRun>& mapped = mapped_[peer].runs;
  std::optional<PeerProcess>& owner = mapped_[peer].process;
  for (const std::uint64_t count = AtomicRef(table.run_count).load(acquire); mapped.size() < count;) {
    if (!owner) owner.emplace(table.owner);
    const GpuBlockTable::Run& run = table.runs[mapped.size()];
    std::optional<MappedRun> here =
        MappedRun::of(*owner, std::span(table.chunks).subspan(run.first, run.chunks));
    if (!here) return;
    own_->blocks[peer].bases[kRun][mapped.size()] = here->base();
    mapped.push_back(std::move(*here));
  }
}

}  // namespace ringtree
