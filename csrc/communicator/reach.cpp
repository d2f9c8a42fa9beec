#include "communicator/reach.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>

#include "communicator/board.h"
#include "communicator/huge_pages.h"
#include "core/other_process.h"
#include "core/stream.h"
#include "link/exchange.h"

namespace ringtree {
namespace {

// What it pays to ask for (docs/measuring.md): blocks from so many bytes of a call on; the kernel from so
// many bytes that one rank copies from another.
constexpr std::size_t kMappedBytes = std::size_t{64} << 10U;
constexpr std::size_t kKernelBytes = std::size_t{128} << 10U;

std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

bool all(const std::vector<Offer>& offers, Offer::Flag flag) {
  return std::all_of(offers.begin(), offers.end(), [&](const Offer& o) { return (o.flags & flag) != 0; });
}

}  // namespace

const std::uint64_t& probe_word() {
  static const std::uint64_t word = std::random_device{}();
  return word;
}

Reach::Reach(Segment& segment, int rank, bool shares_process)
    : segment_(&segment),
      rank_(rank),
      shares_process_(shares_process),
      offers_(static_cast<std::size_t>(segment.world())),
      inputs_(offers_.size()),
      outputs_(offers_.size()),
      processes_(offers_.size()) {
  if (!shares_process) try_access();
}

/// Ptrace's rules decide (proc(5), Yama), so it has to be tried. A word of each peer shows that its process
/// number means the same here.
void Reach::try_access() {
  access_ = Board::tried | Board::opens_files | Board::reads_memory;
  for (int peer = 0; peer < segment_->world(); ++peer) {
    if (peer == rank_) continue;
    const Board& board = segment_->board(peer);
    std::array<char, 8> name{};
    const std::string program = "/proc/" + std::to_string(board.pid) + "/exe";  // guarded as its files are
    if (readlink(program.c_str(), name.data(), name.size()) < 0) access_ &= ~Board::opens_files;
    std::uint64_t found = 0;
    const auto* probe = reinterpret_cast<const void*>(board.probe_address);
    if (read_memory_of(board.pid, &found, probe, sizeof(found)) != 0 || found != board.probe)
      access_ &= ~Board::reads_memory;
  }
  AtomicRef(segment_->board(rank_).access).store(access_, relaxed);
}

std::optional<std::uint8_t> Reach::algorithm_for(Collective collective) {
  static const auto found = [] {
    std::array<std::optional<std::uint8_t>, kCollectives> by_collective;
    for (std::size_t i = 0; i < catalogue().size(); ++i)
      if (catalogue()[i].access != Access::none)
        by_collective[static_cast<std::size_t>(catalogue()[i].collective)] = static_cast<std::uint8_t>(i);
    return by_collective;
  }();
  return found[static_cast<std::size_t>(collective)];
}

bool Reach::is_worth_asking(const CallHeader& call, std::size_t bytes) {
  kernel_pays_ = false;
  if (!announced_ && has_blocks()) announce(call.sequence);
  if (bytes < kMappedBytes) return false;
  const auto algorithm = algorithm_for(static_cast<Collective>(call.collective));
  if (!algorithm || (call.layout != 0 && catalogue()[*algorithm].even_only)) return false;
  if (shares_process_) return true;
  kernel_pays_ = kernel_is_worth_asking(call, bytes);
  const std::uint64_t from = AtomicRef(segment_->hall().reach_from).load(relaxed);
  if (can_map_ && from != 0 && from <= call.sequence) return true;
  if (!kernel_pays_) return false;
  if (pause_ == 0) return true;
  --pause_;
  return false;
}

/// Only where all ranks copy at once: one that copies while another waits is as slow as two that copy in
/// turns, through slots. And not where a copy should bypass the caches, which the kernel's does not.
bool Reach::kernel_is_worth_asking(const CallHeader& call, std::size_t bytes) const {
  const auto collective = static_cast<Collective>(call.collective);
  if (!all_read_all_ || (collective != Collective::all_gather && collective != Collective::all_to_all))
    return false;
  const auto ranks = static_cast<std::size_t>(segment_->world());
  const std::size_t written = collective == Collective::all_gather ? bytes : bytes / ranks;
  return written / ranks >= kKernelBytes && written <= kStreamBytes;
}

/// Tells the ranks that there are blocks to map. Not for this call: others may have entered it already, and
/// some more. Those that enter the first one they cannot have entered see what this rank wrote before.
void Reach::announce(std::uint64_t sequence) {
  announced_ = true;
  const std::uint64_t first = sequence + kMaxLead;
  std::uint64_t& from = segment_->hall().reach_from;
  std::uint64_t known = AtomicRef(from).load(relaxed);
  while ((known == 0 || known > first) &&
         !__atomic_compare_exchange_n(&from, &known, first, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

bool Reach::meet(Solo& team, const Links& links, const Exposed& own, Access access, bool forced) {
  Window window = links.window();
  const auto i = static_cast<std::size_t>(rank_);
  offers_[i] = offer(own);
  post(team, window, Span<const Offer>(&offers_[i], 1));
  for (int peer = 0; peer < segment_->world(); ++peer)
    if (peer != rank_) fetch(team, window, peer, Span<Offer>(&offers_[static_cast<std::size_t>(peer)], 1));
  window.done(team);

  if (std::any_of(offers_.begin(), offers_.end(),
                  [](const Offer& o) { return (o.flags & Offer::fresh) != 0; })) {
    const std::uint64_t mapped = map_what_is_fresh() ? 1 : 0;
    post(team, window, Span<const std::uint64_t>(&mapped, 1));
    for (int peer = 0; peer < segment_->world(); ++peer) {
      std::uint64_t too = mapped;
      if (peer != rank_) fetch(team, window, peer, Span<std::uint64_t>(&too, 1));
      can_map_ = can_map_ && too != 0;
    }
    window.done(team);
  }
  if (!is_allowed(access, forced)) return false;
  resolve(own);
  team.attach(processes_.data());
  return true;
}

Offer Reach::offer(const Exposed& own) {
  Offer offer{};
  offer.input = address_of(own.input);
  offer.output = address_of(own.output);
  if (!shares_process_) {
    const auto place = [](const void* memory, std::size_t bytes) {
      return bytes == 0 ? Place{} : place_of(memory, bytes);
    };
    const std::optional<Place> input = place(own.input, own.input_bytes);
    const std::optional<Place> output = place(own.output, own.output_bytes);
    if ((access_ & Board::reads_memory) != 0) offer.flags |= Offer::reads;
    if (!input || !output) {
      if (lies_in_huge_pages(own.input, own.input_bytes)) offer.flags |= Offer::quick;
      return offer;
    }
    offer.input = input->offset;
    offer.output = output->offset;
    offer.input_file = input->file;
    offer.output_file = output->file;
    offer.input_descriptor = input->descriptor;
    offer.output_descriptor = output->descriptor;
    for (const std::uint32_t file : {input->file, output->file})
      if (file != 0 && named_.insert(file).second) offer.flags |= Offer::fresh;
  }
  offer.flags |= Offer::mapped;
  return offer;
}

/// Maps the files that peers name; false: not all could be mapped.
bool Reach::map_what_is_fresh() {
  bool complete = true;
  for (int rank = 0; rank < segment_->world(); ++rank) {
    const Offer& offer = offers_[static_cast<std::size_t>(rank)];
    if (rank == rank_ || (offer.flags & Offer::fresh) == 0) continue;
    const std::array named{std::pair(offer.input_file, offer.input_descriptor),
                           std::pair(offer.output_file, offer.output_descriptor)};
    for (const auto& [number, descriptor] : named) {
      if (number != 0 && at(rank, number, descriptor, 0) == nullptr) complete = false;
    }
  }
  return complete;
}

bool Reach::is_allowed(Access access, bool forced) {
  constexpr unsigned kLongestPause = 64;
  all_read_all_ = shares_process_ || all(offers_, Offer::reads);
  const bool kernel_reads = std::all_of(offers_.begin(), offers_.end(), [&](const Offer& offer) {
    return (offer.flags & Offer::mapped) != 0 ? can_map_
                                              : forced || (kernel_pays_ && (offer.flags & Offer::quick) != 0);
  });
  const bool allowed =
      (can_map_ && all(offers_, Offer::mapped)) || (access == Access::copy && all_read_all_ && kernel_reads);
  misses_ = allowed ? 0 : misses_ + 1;
  pause_ = misses_ == 0 ? 0 : std::min(1U << std::min(misses_, 16U), kLongestPause);
  return allowed;
}

void Reach::resolve(const Exposed& own) {
  for (int rank = 0; rank < segment_->world(); ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    const Offer& offer = offers_[i];
    if (rank == rank_) {
      inputs_[i] = own.input;
      outputs_[i] = own.output;
      continue;
    }
    inputs_[i] = at(rank, offer.input_file, offer.input_descriptor, offer.input);
    outputs_[i] = at(rank, offer.output_file, offer.output_descriptor, offer.output);
    processes_[i] = (offer.flags & Offer::mapped) != 0 ? 0 : segment_->board(rank).pid;
  }
}

std::optional<Offer> Reach::offer_to(int peer, const void* memory, std::size_t bytes, bool both_ways) const {
  Offer offer{};
  offer.input = address_of(memory);
  offer.flags = Offer::mapped;
  if (shares_process_) return offer;
  const std::uint32_t access = AtomicRef(segment_->board(peer).access).load(relaxed);
  if ((access & Board::opens_files) != 0) {
    if (const std::optional<Place> place = place_of(memory, bytes)) {
      offer.input = place->offset;
      offer.input_file = place->file;
      offer.input_descriptor = place->descriptor;
      return offer;
    }
  }
  offer.flags = Offer::quick;
  if (both_ways && (access & Board::reads_memory) != 0 && lies_in_huge_pages(memory, bytes)) return offer;
  return std::nullopt;
}

int Reach::copy_from(int peer, const Offer& offer, std::size_t offset, void* destination, std::size_t bytes,
                     bool streamed) {
  const std::byte* source = at(peer, offer.input_file, offer.input_descriptor, offer.input + offset);
  if ((offer.flags & Offer::mapped) == 0)
    return read_memory_of(segment_->board(peer).pid, destination, source, bytes);
  if (source == nullptr) return ENOMEM;
  if (streamed)
    stream_copy(destination, source, bytes);
  else
    std::memcpy(destination, source, bytes);
  return 0;
}

void Reach::forget() {
  const std::lock_guard lock(mutex_);
  files_.clear();
}

/// In a file of the peer, mapped at first sight, or null if it cannot be. Without a file `offset` is an
/// address.
std::byte* Reach::at(int rank, std::uint32_t file, std::int32_t descriptor, std::uint64_t offset) {
  if (file == 0) return reinterpret_cast<std::byte*>(offset);
  const std::lock_guard lock(mutex_);
  std::unique_ptr<MappedFile>& mapped = files_[{rank, file}];
  if (!mapped) mapped = std::make_unique<MappedFile>(segment_->board(rank).pid, descriptor);
  return mapped->data() == nullptr ? nullptr : mapped->data() + offset;
}

}  // namespace ringtree
