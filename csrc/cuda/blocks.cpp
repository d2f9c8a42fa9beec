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
static_assert(GpuBlockTable::kRuns <= GpuBlockTable::kBlocks, "MappedBlocks has room for all runs");

CUdeviceptr pointer_to(const void* memory) {
  return static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(memory));
}

decltype(cuPointerGetAttribute)* pointer_attribute() {
  static const auto found = driver_function<decltype(cuPointerGetAttribute)>("cuPointerGetAttribute");
  return found;
}

/// A number that no other allocation of this process ever has; nothing: there is none.
std::optional<std::uint64_t> identity_of(CUdeviceptr address) {
  unsigned long long identity = 0;
  if (pointer_attribute() == nullptr ||
      pointer_attribute()(&identity, CU_POINTER_ATTRIBUTE_BUFFER_ID, address) != CUDA_SUCCESS)
    return std::nullopt;
  return identity;
}

PeerMemory opened(const GpuBlockTable::Entry& entry) {
  cudaIpcMemHandle_t handle{};
  std::memcpy(&handle, entry.handle, sizeof(handle));
  void* memory = nullptr;
  if (cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return PeerMemory(static_cast<std::byte*>(memory));
}

/// An entry or a run.
template <class Published>
bool is_gone(Published& published) {
  return AtomicRef(published.is_gone).load(relaxed) != 0;  // from before the count that tells of newer blocks
}

/// What a peer has freed, of what is mapped of it: `published` is its table's part, `bases` where kernels
/// look. Returns whether there was something.
template <class Memory, class Published>
bool close_what_is_gone(std::vector<Memory>& mapped, Published* published, std::byte** bases) {
  bool has_closed = false;
  for (std::size_t i = 0; i < mapped.size(); ++i) {
    if (!mapped[i] || !is_gone(published[i])) continue;
    bases[i] = nullptr;
    mapped[i].reset();
    has_closed = true;
  }
  return has_closed;
}

}  // namespace

bool is_plain(const void* memory) {
  if (memory == nullptr) return true;
  int is_capable = 0;
  return pointer_attribute() != nullptr &&
         pointer_attribute()(&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                             pointer_to(memory)) == CUDA_SUCCESS &&
         is_capable != 0;
}

SharedBlocks::SharedBlocks(GpuBlockTable* tables, int rank, std::vector<bool> is_near,
                           const GpuExchange& exchange, HostShare& own)
    : tables_(tables),
      rank_(static_cast<std::size_t>(rank)),
      is_near_(std::move(is_near)),
      own_(&own),
      post_(rank_, is_near_, exchange),
      mapped_(is_near_.size()) {}

void SharedBlocks::describe(DeviceOffer& offer, std::size_t in_bytes, std::size_t out_bytes,
                            const IsIdle& is_idle) {
  const BesideCapture allowed;
  const bool is_one = offer.out == offer.in;
  offer.in_place = place_of(offer.in, is_one ? std::max(in_bytes, out_bytes) : in_bytes);
  offer.out_place = is_one ? offer.in_place : place_of(offer.out, out_bytes);
  if (!has_sent_all_) send_new_runs();
  for (std::size_t peer = 0; peer < is_near_.size(); ++peer) {
    if (!is_near_[peer]) {
      map_new_allocations(peer, is_idle);
      map_new_runs(peer, is_idle);
    }
    offer.known[kAllocation][peer] = static_cast<std::uint32_t>(mapped_[peer].allocations.size());
    offer.known[kRun][peer] = static_cast<std::uint32_t>(mapped_[peer].runs.size());
  }
}

BufferPlace SharedBlocks::place_of(const void* memory, std::size_t bytes) {
  if (const std::optional<Allocation> allocation = allocation_of(memory)) {
    const std::uint32_t number = number_of(*allocation);
    if (number != 0)
      return {reinterpret_cast<std::uintptr_t>(memory) - allocation->base, number, kAllocation};
  }
  return place_in_run(memory, std::max(bytes, std::size_t{1}));
}

std::optional<SharedBlocks::Allocation> SharedBlocks::allocation_of(const void* memory) {
  static const auto address_range = driver_function<decltype(cuMemGetAddressRange)>("cuMemGetAddressRange");
  if (memory == nullptr || address_range == nullptr) return std::nullopt;
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  if (address_range(&base, &bytes, pointer_to(memory)) != CUDA_SUCCESS || bytes < kSmallestMappedBytes)
    return std::nullopt;
  const std::optional<std::uint64_t> identity = identity_of(pointer_to(memory));
  if (!identity) return std::nullopt;
  return Allocation{static_cast<std::uintptr_t>(base), *identity};
}

std::uint32_t SharedBlocks::number_of(const Allocation& allocation) {
  const auto [found, is_new] = numbers_.try_emplace(allocation.identity, 0);
  GpuBlockTable& table = tables_[rank_];
  const std::size_t count = published_.size();
  if (!is_new || count == GpuBlockTable::kBlocks) return found->second;
  cudaIpcMemHandle_t handle{};
  if (cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(allocation.base)) != cudaSuccess) {
    cudaGetLastError();  // memory of a pool or of cuMemMap: it has no such handle
    return 0;
  }
  mark_what_is_gone();
  std::memcpy(table.entries[count].handle, &handle, sizeof(handle));
  published_.push_back(allocation);
  AtomicRef(table.count).store(count + 1, release);  // pairs with: the load in map_new_allocations()
  found->second = static_cast<std::uint32_t>(count + 1);
  return found->second;
}

/// Peers need not map it any more; and while they have it open CUDA may refuse them what lies there now. No
/// call of this rank names it from now on.
void SharedBlocks::mark_what_is_gone() {
  for (std::size_t i = 0; i < published_.size(); ++i) {
    if (identity_of(published_[i].base) == published_[i].identity) continue;
    AtomicRef(tables_[rank_].entries[i].is_gone).store(1U, relaxed);
    numbers_[published_[i].identity] = 0;
  }
}

/// In a run that has all of its chunks, or a new one of just these.
BufferPlace SharedBlocks::place_in_run(const void* memory, std::size_t bytes) {
  std::vector<Chunk> chunks = chunks_of(memory, bytes, Post::kMostDescriptors);
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
  GpuBlockTable& table = tables_[rank_];
  const std::uint64_t count = table.run_count;
  if (count == GpuBlockTable::kRuns || chunks_.size() + chunks.size() > GpuBlockTable::kChunks) return 0;
  std::vector<SharedChunk> shared;
  for (Chunk& chunk : chunks) {
    Descriptor descriptor = exported(chunk);
    if (descriptor.number() < 0) return 0;
    shared.push_back({std::move(chunk), std::move(descriptor)});
  }
  forget_runs_that_are_gone();
  table.runs[count] = {static_cast<std::uint32_t>(chunks_.size()), static_cast<std::uint32_t>(shared.size()),
                       0};
  for (SharedChunk& each : shared) {
    table.chunks[chunks_.size()] = {each.chunk.bytes};
    chunks_.push_back(std::move(each));
  }
  AtomicRef(table.run_count).store(count + 1, release);  // pairs with: the load in map_new_runs()
  has_sent_all_ = false;
  return static_cast<std::uint32_t>(count + 1);
}

/// In the peer's order, so that one number says what is mapped. What has been freed needs no mapping: no
/// array lies there. What cannot be mapped holds up what comes behind it, and is tried again: by the next
/// call, then after 2, 4, 8, ... calls, since each attempt is one of the driver's functions.
void SharedBlocks::map_new_allocations(std::size_t peer, const IsIdle& is_idle) {
  constexpr unsigned kLongestPause = 7;  // 128 calls
  GpuBlockTable& table = tables_[peer];
  Mapped& mapped = mapped_[peer];
  const std::uint64_t count = AtomicRef(table.count).load(acquire);
  if (mapped.allocations.size() == count) return;
  if (is_idle() &&
      close_what_is_gone(mapped.allocations, table.entries, own_->blocks[peer].bases[kAllocation]))
    mapped.failures = 0;
  if (mapped.failures != 0 && ++mapped.calls < 1U << std::min(mapped.failures - 1, kLongestPause)) return;
  while (mapped.allocations.size() < count) {
    const std::size_t next = mapped.allocations.size();
    PeerMemory memory = is_gone(table.entries[next]) ? nullptr : opened(table.entries[next]);
    if (!memory && !is_gone(table.entries[next])) {
      ++mapped.failures;
      mapped.calls = 0;
      return;
    }
    own_->blocks[peer].bases[kAllocation][next] = memory.get();
    mapped.allocations.push_back(std::move(memory));
    mapped.failures = 0;
  }
}

/// Nothing lies there any more, and the memory is free as soon as peers have closed it, too. A run of which
/// something is left keeps all: a graph may still have an array there.
void SharedBlocks::forget_runs_that_are_gone() {
  GpuBlockTable& table = tables_[rank_];
  for (GpuBlockTable::Run& run : std::span(table.runs).first(table.run_count)) {
    if (is_gone(run)) continue;
    const auto chunks = std::span(chunks_).subspan(run.first, run.chunks);
    if (std::any_of(chunks.begin(), chunks.end(), [](const auto& each) { return is_mapped(each.chunk); }))
      continue;
    for (SharedChunk& each : chunks) each.chunk = {};
    AtomicRef(run.is_gone).store(1U, relaxed);
  }
}

/// What a peer cannot take yet it gets at one of the next calls.
void SharedBlocks::send_new_runs() {
  const GpuBlockTable& table = tables_[rank_];
  has_sent_all_ = true;
  for (std::size_t peer = 0; peer < is_near_.size(); ++peer) {
    std::uint64_t& sent = mapped_[peer].sent;
    for (; !is_near_[peer] && sent < table.run_count; ++sent) {
      const GpuBlockTable::Run& run = table.runs[sent];
      std::vector<int> descriptors;
      for (const SharedChunk& each : std::span(chunks_).subspan(run.first, run.chunks))
        descriptors.push_back(each.descriptor.number());
      const Post::Sent outcome = post_.send(peer, descriptors);
      if (outcome == Post::Sent::never) sent = table.run_count - 1;
      if (outcome == Post::Sent::later) {
        has_sent_all_ = false;
        break;
      }
    }
  }
  if (!has_sent_all_) return;
  for (SharedChunk& each : chunks_) each.descriptor = {};
}

/// As map_new_allocations(), but tried again by every call.
void SharedBlocks::map_new_runs(std::size_t peer, const IsIdle& is_idle) {
  GpuBlockTable& table = tables_[peer];
  std::vector<std::optional<MappedRun>>& runs = mapped_[peer].runs;
  std::vector<Descriptor>& arrived = mapped_[peer].arrived;
  const std::uint64_t count = AtomicRef(table.run_count).load(acquire);
  if (runs.size() == count) return;
  if (is_idle()) close_what_is_gone(runs, table.runs, own_->blocks[peer].bases[kRun]);
  while (runs.size() < count) {
    if (arrived.empty()) arrived = post_.receive(peer);
    if (arrived.empty()) return;
    GpuBlockTable::Run& run = table.runs[runs.size()];
    const auto chunks = std::span(table.chunks).subspan(run.first, run.chunks);
    std::optional<MappedRun> here = is_gone(run) ? std::nullopt : MappedRun::of(arrived, chunks);
    if (!here && !is_gone(run)) return;
    arrived.clear();
    own_->blocks[peer].bases[kRun][runs.size()] = here ? here->base() : nullptr;
    runs.push_back(std::move(here));
  }
}

}  // namespace ringtree
