#include "cuda/fabric.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"
#include "core/platform.h"
#include "cuda/introduction.h"
#include "cuda/kept.h"
#include "cuda/launch.h"
#include "cuda/messages.h"
#include "cuda/order.h"
#include "cuda/protocol.h"
#include "cuda/residency.h"
#include "cuda/staging.h"

namespace ringtree {
namespace {

/// Lets kernels of this device use memory of another one that the same process drives. Whether they can.
bool enable_peer(int device, int peer) {
  if (device == peer) return true;
  const cudaError_t result = cudaDeviceEnablePeerAccess(peer, 0);
  if (result != cudaSuccess) cudaGetLastError();
  return result == cudaSuccess || result == cudaErrorPeerAccessAlreadyEnabled;
}

template <class Word>
bool all_reach_all(const std::vector<Word>& all) {
  return std::all_of(all.begin(), all.end(), [](const Word& one) { return one.reaches_all; });
}

DeviceMemory<std::byte> allocate_links(const DeviceLayout& layout) {
  return allocate_on_device(mappable_bytes(layout.bytes()), "the links of a communicator");
}

}  // namespace

/// What one rank has here.
struct Fabric::Rank {
  DeviceMemory<std::byte> links;  ///< null: they are staged
  DeviceMemory<std::byte> state;
  HostMemory<std::byte> host;

  explicit Rank(DeviceMemory<std::byte> links_)
      : links(std::move(links_)),
        state(allocate_on_device(sizeof(DeviceRank), "the links of a communicator")),
        host(allocate_on_host(sizeof(HostShare), "the links of a communicator")) {}

  /// Nobody uses it any more.
  void keep_memory(int device, const DeviceLayout& layout) {
    if (links) keep(std::move(links), device, mappable_bytes(layout.bytes()));
    keep(std::move(state), device, sizeof(DeviceRank));
    keep(std::move(host), sizeof(HostShare));
  }

  DeviceRank* on_device() const { return reinterpret_cast<DeviceRank*>(state.get()); }

  /// Tells the kernels where everything is.
  void connect(const std::vector<std::byte*>& memories) const {
    DeviceRank image{};
    std::copy(memories.begin(), memories.end(), std::begin(image.memories));
    image.host = reinterpret_cast<HostShare*>(host.get());
    copy_to_device(state.get(), &image, sizeof(image), "the links of a communicator");
  }
};

Fabric::Fabric(int device, int first_rank, const FabricShape& shape)
    : device_(device), first_rank_(first_rank), shape_(shape) {}

Fabric::~Fabric() {
  const OnDevice here(device_, std::nothrow);
  if (!has_ended_) {
    give_up();
    cudaDeviceSynchronize();  // what still runs ends now, and touches no memory of a peer after this
  }
  blocks_.reset();
  peers_.clear();
  for (const auto& rank : ranks_)
    if (has_ended_) rank->keep_memory(device_, shape_.layout);
  ranks_.clear();
  if (staged_ && has_ended_) staged_->keep_memory();
  staged_.reset();
}

std::unique_ptr<Fabric> Fabric::of_virtual_ranks(int world) {
  if (world < 1 || world > kMaxDeviceRanks)
    throw InvalidArgument("virtual ranks: there may be 1 to " + std::to_string(kMaxDeviceRanks) + ", not " +
                          std::to_string(world));
  const Introduction own = introduce(world);
  FabricShape shape =
      shape_for(std::vector<Introduction>(static_cast<std::size_t>(world), own), Launch::together);
  settle_protocol(shape, own.protocol, true);
  return of_virtual_ranks(shape);
}

std::unique_ptr<Fabric> Fabric::of_virtual_ranks(const FabricShape& shape) {
  std::unique_ptr<Fabric> fabric(new Fabric(current_device(), 0, shape));
  std::vector<std::byte*> memories;
  for (int rank = 0; rank < shape.layout.world; ++rank) {
    fabric->ranks_.push_back(std::make_unique<Rank>(allocate_links(shape.layout)));
    memories.push_back(fabric->ranks_.back()->links.get());
  }
  for (const auto& rank : fabric->ranks_) rank->connect(memories);
  return fabric;
}

std::unique_ptr<Fabric> Fabric::of_rank(int rank, int world, const GpuLibrary::Exchange& exchange,
                                        Transport& transport) {
  if (world > kMaxDeviceRanks)
    throw InvalidArgument("the CUDA fabric connects up to " + std::to_string(kMaxDeviceRanks) +
                          " ranks, not " + std::to_string(world));
  const std::vector<Introduction> all = exchange_words(exchange, rank, [&] { return introduce(world); });
  if (static_cast<int>(all.size()) != world) throw TransportError("some ranks gave no introduction");
  std::unique_ptr<Fabric> fabric(new Fabric(current_device(), rank, shape_for(all, Launch::each)));
  if (fabric->connect(all, exchange)) return fabric;
  fabric->have_ended();  // before a kernel began
  fabric.reset(new Fabric(current_device(), rank, staged_shape_for(all)));
  fabric->connect_staged(all, exchange, transport);
  return fabric;
}

/// By memory of the GPUs. False, on all ranks: one of them cannot reach that of another.
bool Fabric::connect(const std::vector<Introduction>& ranks, const GpuLibrary::Exchange& exchange) {
  const auto invite = [&] {
    Invitation own{};
    own.reaches_all = std::all_of(ranks.begin(), ranks.end(),
                                  [this](const Introduction& theirs) { return may_reach(device_, theirs); });
    if (!own.reaches_all) return own;
    own.carries_lines = std::all_of(ranks.begin(), ranks.end(), [this](const Introduction& theirs) {
      return carries_lines(device_, theirs);
    });
    ranks_.push_back(std::make_unique<Rank>(allocate_links(shape_.layout)));
    own.memory = ranks_[0]->links.get();
    const bool is_offered = std::all_of(ranks.begin(), ranks.end(), is_near) ||
                            cudaIpcGetMemHandle(&own.handle, own.memory) == cudaSuccess;
    if (!is_offered) cudaGetLastError();  // a driver without CUDA IPC
    own.reaches_all = is_offered;
    return own;
  };
  const std::vector<Invitation> all = exchange_words(exchange, first_rank_, invite);
  if (!all_reach_all(all)) return false;
  settle_protocol(shape_, ranks[0].protocol, std::all_of(all.begin(), all.end(), [](const Invitation& one) {
                    return one.carries_lines;
                  }));
  const auto accept = [&] {
    std::vector<std::byte*> memories;
    for (std::size_t peer = 0; peer < all.size(); ++peer) {
      is_near_.push_back(is_near(ranks[peer]));
      spans_gpus_ = spans_gpus_ || (is_near_[peer] && ranks[peer].device != device_);
      memories.push_back(reach(ranks[peer], all[peer]));
      if (memories.back() == nullptr) return Acceptance{false};
    }
    ranks_[0]->connect(memories);
    return Acceptance{true};
  };
  return all_reach_all(exchange_words(exchange, first_rank_, accept));
}

void Fabric::connect_staged(const std::vector<Introduction>& ranks, const GpuLibrary::Exchange& exchange,
                            Transport& transport) {
  staged_ = std::make_unique<StagedLinks>(ranks, first_rank_, shape_.layout.bytes(), exchange, transport);
  exchange_words(exchange, first_rank_, [&] {
    ranks_.push_back(std::make_unique<Rank>(nullptr));
    ranks_[0]->connect(staged_->memories());
    return Acceptance{true};
  });
}

/// The memory that a peer offers; null: this GPU cannot reach it.
std::byte* Fabric::reach(const Introduction& theirs, const Invitation& offer) {
  if (is_near(theirs)) return enable_peer(device_, theirs.device) ? offer.memory : nullptr;
  void* mapped = nullptr;
  if (cudaIpcOpenMemHandle(&mapped, offer.handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  peers_.emplace_back(static_cast<std::byte*>(mapped));
  return peers_.back().get();
}

void Fabric::share_blocks(GpuBlockTable* tables, const GpuExchange& exchange) {
  if (is_staged()) return;  // nobody reaches them
  blocks_ = std::make_unique<SharedBlocks>(tables, first_rank_, is_near_, exchange, host_share(0));
}

std::size_t Fabric::bytes() const {
  return ranks_.size() * ((is_staged() ? 0 : shape_.layout.bytes()) + sizeof(DeviceRank));
}

HostShare& Fabric::host_share(std::size_t local) const {
  return *reinterpret_cast<HostShare*>(ranks_[local]->host.get());
}

GpuFault Fabric::fault() const {
  for (std::size_t local = 0; local < ranks_.size(); ++local) {
    DeviceReport& report = host_share(local).report;
    const std::uint64_t raised = AtomicRef(report.raised).load(acquire);  // pairs with: Block::give_up()
    if (raised == DeviceReport::none || raised == DeviceReport::told) continue;
    const bool timed_out = raised == DeviceReport::timeout;
    return {timed_out ? GpuFault::timeout : GpuFault::mismatch,
            static_cast<int>(AtomicRef(report.peer).load(relaxed)), AtomicRef(report.sequence).load(relaxed),
            AtomicRef(report.sent).load(relaxed)};
  }
  return {GpuFault::none, 0, 0, 0};
}

bool Fabric::is_sound() const {
  for (std::size_t local = 0; local < ranks_.size(); ++local)
    if (AtomicRef(host_share(local).report.raised).load(relaxed) != DeviceReport::none) return false;
  return true;
}

/// In the order that leaves the host too cautious, if kernels go on meanwhile: what is over, then what has
/// ended, and then what has begun.
GpuProgress Fabric::progress() const {
  DeviceReport& report = host_share(0).report;
  GpuProgress progress{};
  progress.finished = AtomicRef(report.finished).load(acquire);  // pairs with: tell_end(), as the others do
  progress.finished_messages = AtomicRef(report.finished_messages).load(acquire);
  progress.ended = AtomicRef(report.ended).load(acquire);
  progress.begun = AtomicRef(report.begun).load(acquire);  // pairs with: tell_begin()
  progress.ended_together = AtomicRef(report.ended_together).load(relaxed);
  progress.newest = AtomicRef(report.newest).load(relaxed);
  return progress;
}

void Fabric::give_up() {
  for (std::size_t local = 0; local < ranks_.size(); ++local) {
    AtomicRef<std::uint64_t> raised(host_share(local).report.raised);
    if (raised.load(relaxed) == DeviceReport::none) raised.store(DeviceReport::told, release);
  }
}

DeviceCall Fabric::call_of(const GpuTask& task, std::span<const GpuBuffers> buffers) const {
  DeviceCall call{};
  call.layout = shape_.layout;
  call.digest = task.digest;
  call.sequence = task.sequence;
  call.timeout_ns = static_cast<std::uint64_t>(task.timeout_seconds * 1e9);
  call.in_bytes = task.in_bytes;
  call.out_bytes = task.out_bytes;
  call.share = task.share;
  call.in_is_uneven = !task.in_offsets.empty();
  call.out_is_uneven = !task.out_offsets.empty();
  std::copy(task.in_offsets.begin(), task.in_offsets.end(), std::begin(call.in_offsets));
  std::copy(task.out_offsets.begin(), task.out_offsets.end(), std::begin(call.out_offsets));
  call.first_rank = first_rank_;
  call.root = task.root;
  call.reduction = DeviceReduction(task.dtype, task.op, world());
  for (std::size_t local = 0; local < ranks_.size(); ++local) {
    call.ranks[local] = ranks_[local]->on_device();
    call.buffers[local].in = buffers[local].in;
    call.buffers[local].out = buffers[local].out;
    call.buffers[local].process = this_process();
    call.buffers[local].device = device_;
  }
  return call;
}

void Fabric::launch(const GpuTask& task, std::span<const GpuBuffers> buffers, cudaStream_t stream) {
  const OnDevice here(device_);
  DeviceCall call = call_of(task, buffers);
  const bool may_prefer = !shape_.is_ordered && !is_staged();
  const std::size_t packet_bytes =
      may_prefer ? task.packet_bytes.value_or(shape_.packet_bytes) : shape_.packet_bytes;
  if (task.fallback >= 0 && is_staged())  // what all ranks know without a meeting
    return launch_kernel(static_cast<std::size_t>(task.fallback), call, packet_bytes, stream);
  if (task.fallback >= 0 && spans_gpus_) {
    call.buffers[0].in_is_plain = is_plain(buffers[0].in);
    call.buffers[0].out_is_plain = is_plain(buffers[0].out);
  }
  if (task.fallback >= 0 && blocks_)
    blocks_->describe(call.buffers[0], call.in_bytes, call.out_bytes, [&] { return is_idle(stream); });
  launched_ = task.sequence;
  launch_kernel(task.algorithm, call, packet_bytes, stream);
  if (task.fallback < 0) return;
  call.unless_reached = true;
  launch_kernel(static_cast<std::size_t>(task.fallback), call, packet_bytes, stream);
}

/// Whether the GPU can be waited for: no kernel of this rank, in whatever communicator, runs, or is to run
/// before what comes next, nor are there threads whose kernels might wait for this rank's. Graphs that have
/// not begun are not seen.
bool Fabric::is_idle(cudaStream_t stream) const {
  const GpuProgress now = progress();
  return std::count(is_near_.begin(), is_near_.end(), true) == 1 && !now.runs() &&
         now.finished >= launched_ && now.finished_messages >= sent_ && !is_capturing(stream) &&
         StreamOrder::is_over_everywhere();
}

/// Letters in rounds: see DeviceMessages.
void Fabric::exchange(const std::vector<GpuLetter>& outgoing, const std::vector<GpuLetter>& incoming,
                      std::uint64_t sequence, double timeout_seconds, cudaStream_t stream) {
  const OnDevice here(device_);
  DeviceMessages call{};
  call.layout = shape_.layout;
  call.sequence = sequence;
  call.timeout_ns = static_cast<std::uint64_t>(timeout_seconds * 1e9);
  call.in_packets = shape_.is_ordered ? shape_.packet_bytes : std::min<std::size_t>(shape_.packet_bytes, 1);
  call.rank = ranks_[0]->on_device();
  call.own_rank = first_rank_;
  call.outgoing = static_cast<int>(outgoing.size());
  call.letters = static_cast<int>(outgoing.size() + incoming.size());
  sent_ = sequence;
  GpuLetter* const received = std::copy(outgoing.begin(), outgoing.end(), std::begin(call.of));
  GpuLetter* const last = std::copy(incoming.begin(), incoming.end(), received);
  const auto distance = [this](int from, int to) { return (to - from + world()) % world(); };
  std::stable_sort(std::begin(call.of), received, [&](const GpuLetter& one, const GpuLetter& other) {
    return distance(first_rank_, one.peer) < distance(first_rank_, other.peer);
  });
  std::stable_sort(received, last, [&](const GpuLetter& one, const GpuLetter& other) {
    return distance(one.peer, first_rank_) < distance(other.peer, first_rank_);
  });
  int channels = 1;
  for (const GpuLetter* letter = std::begin(call.of); letter != last; ++letter)
    channels = std::max(channels, message_channels(letter->bytes, shape_.layout.channels));
  // Both blocks have to be resident where a rank has one multiprocessor to itself: they share its registers.
  const int lanes = shape_.layout.channels < 2 ? std::max(shape_.lanes / 2, 1) : shape_.lanes;
  void* arguments[] = {&call};
  check_cuda(cudaLaunchKernel(launchable(&messages_kernel), dim3(static_cast<unsigned>(channels), 2),
                              dim3(static_cast<unsigned>(lanes)), arguments,
                              shape_.layout.packets.areas_bytes(), stream),
             "the launch of send and recv");
}

/// What it decides is the same on all ranks: it depends on what they have agreed on.
void Fabric::launch_kernel(std::size_t algorithm, DeviceCall& call, std::size_t packet_bytes,
                           cudaStream_t stream) const {
  const NamedKernel& entry = kernels()[algorithm];
  if (entry.kernel == nullptr) throw InvalidArgument(std::string("there is no kernel of ") + entry.name);
  const std::size_t bytes = std::max({call.in_bytes, call.out_bytes, std::size_t{1}});
  // In an uneven all-to-all a rank knows what it gives and gets, and not what others do.
  const bool knows_all = !call.in_is_uneven || !call.out_is_uneven;
  const bool over_packets = knows_all && entry.over_packets != nullptr && bytes <= packet_bytes;
  const std::size_t each = over_packets ? shape_.layout.packets.message_bytes : kBytesPerChannel;
  const auto most = static_cast<std::size_t>(shape_.layout.channels);
  const std::size_t channels = knows_all ? std::min((bytes + each - 1) / each, most) : most;
  const dim3 grid(static_cast<unsigned>(channels), static_cast<unsigned>(ranks_.size()));
  const CalledKernel one = called(entry, over_packets, shape_.layout);
  const auto kernel = launchable(one.kernel);
  const dim3 block(static_cast<unsigned>(shape_.lanes));
  void* arguments[] = {&call};
  // Blocks of one rank do not wait for one another, so that they need not be resident together.
  check_cuda(ranks_.size() == 1
                 ? cudaLaunchKernel(kernel, grid, block, arguments, one.shared_bytes, stream)
                 : cudaLaunchCooperativeKernel(kernel, grid, block, arguments, one.shared_bytes, stream),
             std::string("the launch of ") + entry.name);
}

}  // namespace ringtree
