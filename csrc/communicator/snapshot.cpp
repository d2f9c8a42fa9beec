#include "communicator/snapshot.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>

#include "communicator/call.h"
#include "communicator/fault.h"
#include "communicator/host_entry.h"
#include "communicator/json.h"
#include "communicator/liveness.h"
#include "core/dtype.h"
#include "core/gpu.h"
#include "core/op.h"
#include "core/other_process.h"

namespace ringtree {
namespace {

constexpr std::uint64_t kVersion = 1;

template <class Word>
std::uint64_t load(const Word& word) {
  return AtomicRef(const_cast<Word&>(word)).load(relaxed);
}

void field(Json& json, const char* name, std::uint64_t value) {
  json.key(name);
  json.number(value);
}
void field(Json& json, const char* name, const std::string& value) {
  json.key(name);
  json.string(value);
}
void time_field(Json& json, const char* name, std::uint64_t ns) {
  json.key(name);
  ns == 0 ? json.null() : json.number(ns);
}

const char* algorithm_name(std::uint64_t index) {
  return index < catalogue().size() ? catalogue()[index].name : "unknown";
}

/// Nothing of a record that its rank was just overwriting, or has not written yet.
void write_call(Json& json, const Board& board, std::size_t place, std::uint64_t arrived,
                std::uint64_t done) {
  const std::string line = text_of(board.lines[place]);
  const CallRecord& record = board.calls[place];
  std::array<std::uint64_t, 4> words{};
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = load(record.header[i]);
  const auto call = std::bit_cast<CallHeader>(words);
  if (call.sequence == 0 || call.sequence > arrived || call.sequence % Board::kCalls != place ||
      call.sequence + Board::kCalls <= arrived || call.collective >= kCollectives ||
      call.algorithm_index() >= catalogue().size() || call.dtype >= kDTypes || call.op >= kReduceOps)
    return;
  const std::uint64_t bytes = load(record.bytes);
  const bool is_over = call.sequence <= done, is_timed = is_over && bytes >= Board::kTimedBytes;
  const auto collective = static_cast<Collective>(call.collective);
  json.open_object();
  field(json, "sequence", call.sequence);
  field(json, "op", kCollectiveNames[call.collective]);
  field(json, "dtype", name_of(static_cast<DType>(call.dtype)));
  field(json, "count", call.count);
  json.key("reduction");
  reduces(collective) ? json.string(name_of(static_cast<ReduceOp>(call.op))) : json.null();
  json.key("root");
  has_root(collective) ? json.number(static_cast<std::int64_t>(call.root)) : json.null();
  field(json, "algorithm", algorithm_name(is_timed ? load(record.ran) : call.algorithm_index()));
  field(json, "call", describe(call));
  json.key("line");
  line.empty() ? json.null() : json.string(line);
  field(json, "bytes", bytes);
  json.key("done");
  json.boolean(is_over);
  time_field(json, "began_ns", load(record.began_ns));
  time_field(json, "ended_ns", is_timed ? load(record.ended_ns) : 0);
  json.close_object();
}

void write_message(Json& json, const MessageRecord& record) {
  const std::uint64_t number = AtomicRef(const_cast<MessageRecord&>(record).number).load(acquire);
  const std::uint64_t contents = load(record.contents), address = load(record.address);
  if (number == 0 || (contents & 0xFFU) >= kDTypes) return;
  json.open_object();
  field(json, "op", (address & 1U) != 0 ? "recv" : "send");
  field(json, "peer", address / 4);
  field(json, "number", number & ~kGpuMessage);
  json.key("on_gpu");
  json.boolean((number & kGpuMessage) != 0);
  field(json, "dtype", name_of(static_cast<DType>(contents & 0xFFU)));
  field(json, "count", contents >> 8U);
  json.key("done");
  json.boolean((address & 2U) != 0);
  time_field(json, "began_ns", load(record.began_ns));
  json.close_object();
}

const char* process_state(int pid) {
  if (pid == getpid()) return "runs";
  if (has_ended(pid)) return "ended";
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');  // the name of the program may hold anything
  const char state = name_end == std::string::npos || name_end + 2 >= line.size() ? 'R' : line[name_end + 2];
  return state == 'T' || state == 't' ? "stopped" : "runs";
}

void write_rank(Json& json, const Board& board, int rank) {
  const std::uint64_t arrived = AtomicRef(const_cast<Board&>(board).arrived).load(acquire);
  const std::uint64_t done = load(board.done), awaited = load(board.awaited), state = load(board.state);
  constexpr std::array kStates{"absent", "present", "left"};
  json.open_object();
  field(json, "rank", static_cast<std::uint64_t>(rank));
  field(json, "pid", static_cast<std::uint64_t>(board.pid));
  field(json, "state", state < kStates.size() ? kStates[state] : "unknown");
  field(json, "process", process_state(board.pid));
  field(json, "entered", arrived);
  field(json, "done", done);
  field(json, "moved_bytes", load(board.moved));
  json.key("waits_for");
  awaited == 0 ? json.null() : json.number(awaited - 1);
  time_field(json, "waits_since_ns", awaited == 0 ? 0 : load(board.awaited_since_ns));

  json.key("calls");
  json.open_array();
  const std::uint64_t first = arrived < Board::kCalls ? 1 : arrived - Board::kCalls + 1;
  for (std::uint64_t sequence = first; sequence <= arrived; ++sequence) {
    const std::size_t place = sequence % Board::kCalls;
    write_call(json, board, place, arrived, done);
  }
  json.close_array();
  json.key("messages");
  json.open_array();
  const std::uint64_t messages = AtomicRef(const_cast<Board&>(board).messages).load(acquire);
  const std::uint64_t oldest = messages < Board::kMessages ? 0 : messages - Board::kMessages;
  for (std::uint64_t place = oldest; place < messages; ++place)
    write_message(json, board.letters[place % Board::kMessages]);
  json.close_array();
  json.close_object();
}

void write_fault(Json& json, Segment segment) {
  json.key("fault");
  if (!has_fault(segment)) return json.null();
  const FaultRecord& fault = segment.hall().fault;
  json.open_object();
  field(json, "kind", name_of(static_cast<ErrorKind>(fault.kind)));
  json.key("ranks");
  json.open_array();
  for (const int rank : ranks_of(fault, segment.world())) json.number(static_cast<std::int64_t>(rank));
  json.close_array();
  field(json, "text", std::string(fault.text.data()));
  json.close_object();
}

/// A mapping of a segment in another process.
struct Found {
  std::uintptr_t begin, end;
  std::string file;  ///< under /proc, for those who may open it
};

std::vector<Found> segments_of(int pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  std::ifstream maps(folder + "/maps");
  if (!maps)
    throw TransportError("process " + std::to_string(pid) +
                         " cannot be looked at: " + std::strerror(errno == 0 ? EACCES : errno));
  std::vector<Found> found;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/dev/shm/ringtree-") == std::string::npos) continue;
    const std::string range = line.substr(0, line.find(' '));
    std::istringstream numbers(range);
    Found segment{};
    char dash = 0;
    numbers >> std::hex >> segment.begin >> dash >> segment.end;
    segment.file = folder + "/map_files/" + range;
    found.push_back(segment);
  }
  return found;
}

/// Copies from another process, through ptrace's permission, or else through the file.
void peek(int pid, const Found& from, std::size_t bytes, std::byte* to) {
  const auto* source = reinterpret_cast<const void*>(from.begin);
  if (from.begin + bytes <= from.end && read_memory_of(pid, to, source, bytes) == 0) return;
  std::ifstream file(from.file, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(bytes)))
    throw TransportError(
        "the memory of process " + std::to_string(pid) +
        " may not be read: be its user and allow ptrace (kernel.yama.ptrace_scope = 0), or be "
        "root");
}

/// The head of a segment, without the calls that were being written while it was copied.
std::string observe_one(int pid, const Found& found) {
  // Words, so that the copy is aligned as the segment is.
  const auto buffer = [](std::size_t bytes) {
    return std::unique_ptr<std::byte, void (*)(void*)>(
        static_cast<std::byte*>(
            std::aligned_alloc(kCacheLine, (bytes + kCacheLine - 1) / kCacheLine * kCacheLine)),
        std::free);
  };
  const auto hall = buffer(sizeof(Hall));
  peek(pid, found, sizeof(Hall), hall.get());
  const Hall& seen = *reinterpret_cast<const Hall*>(hall.get());
  const int world = static_cast<int>(seen.world);
  if (seen.layout != kSegmentLayout || world < 1 || world > kMaxWorld)
    throw TransportError("process " + std::to_string(pid) +
                         " uses another version of ringtree: run the command of its installation");
  const std::size_t bytes = Segment::head_bytes(world);
  const auto first = buffer(bytes), second = buffer(bytes);
  peek(pid, found, bytes, first.get());
  peek(pid, found, bytes, second.get());
  const Segment segment(first.get(), world), again(second.get(), world);
  for (int rank = 0; rank < world; ++rank) {
    Board& board = segment.board(rank);
    const Board& later = again.board(rank);
    for (std::size_t i = 0; i < Board::kCalls; ++i)
      if (std::memcmp(&board.calls[i], &later.calls[i], sizeof(CallRecord)) != 0 ||
          board.lines[i] != later.lines[i])
        board.calls[i] = CallRecord{};
  }
  return snapshot(segment, -1);
}

}  // namespace

std::string snapshot(const Segment& segment, int rank) {
  timespec wall{};
  clock_gettime(CLOCK_REALTIME, &wall);
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  Json json;
  json.open_object();
  field(json, "version", kVersion);
  field(json, "communicator", std::string(segment.hall().name.data()));
  field(json, "label", std::string(segment.hall().label.data()));
  field(json, "host", std::string(host.data()));
  field(json, "world", static_cast<std::uint64_t>(segment.world()));
  json.key("rank");
  rank < 0 ? json.null() : json.number(static_cast<std::int64_t>(rank));
  field(json, "written_unix_ns",
        static_cast<std::uint64_t>(wall.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(wall.tv_nsec));
  field(json, "now_ns", precise_ns());
  write_fault(json, segment);
  json.key("ranks");
  json.open_array();
  for (int peer = 0; peer < segment.world(); ++peer) write_rank(json, segment.board(peer), peer);
  json.close_array();
  json.close_object();
  return json.text();
}

std::vector<std::string> observe(int pid) {
  std::vector<std::string> snapshots;
  for (const Found& found : segments_of(pid)) snapshots.push_back(observe_one(pid, found));
  return snapshots;
}

}  // namespace ringtree
