#include "cuda/process_ranks.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <thread>

#include "core/errors.h"

extern char** environ;

namespace ringtree::testing {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr unsigned kLongestScenario = 2 * 60;  // seconds; a rank that the others have left waits no longer
constexpr const char* kFlag = "--rank-of-scenario";

std::map<std::string, Scenario>& scenarios() {
  static std::map<std::string, Scenario> all;
  return all;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

pid_t start(const std::string& scenario, int rank, int world, int descriptor) {
  std::vector<std::string> arguments = {
      "cuda_test", kFlag, scenario, std::to_string(rank), std::to_string(world), std::to_string(descriptor)};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t process = 0;
  require(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, pointers.data(), environ) == 0,
          "posix_spawn");
  return process;
}

int status_of(pid_t process) {
  int status = 0;
  require(waitpid(process, &status, 0) == process, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

SharedTable SharedTable::create() {
  const int descriptor = memfd_create("ringtree-test", 0);  // which children inherit
  require(descriptor >= 0 && ftruncate(descriptor, sizeof(Table)) == 0, "memfd_create");
  return SharedTable(descriptor);
}

SharedTable SharedTable::open(int descriptor) { return SharedTable(descriptor); }

SharedTable::SharedTable(int descriptor) : descriptor_(descriptor) {
  void* const mapped = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  require(mapped != MAP_FAILED, "mmap");
  table_ = static_cast<Table*>(mapped);
}

SharedTable::~SharedTable() {
  munmap(table_, sizeof(Table));
  close(descriptor_);
}

std::vector<std::string> SharedTable::exchange(int rank, int world, const std::string& own) {
  require(turn_ < kTurns && own.size() <= kWordBytes, "the table is too small");
  Word* const words = table_->words[turn_++];
  std::memcpy(words[rank].bytes, own.data(), own.size());
  words[rank].bytes_and_one.store(static_cast<std::uint32_t>(own.size() + 1), std::memory_order_release);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::vector<std::string> all;
  for (int peer = 0; peer < world; ++peer) {
    std::uint32_t size = 0;
    while ((size = words[peer].bytes_and_one.load(std::memory_order_acquire)) == 0) {
      if (std::chrono::steady_clock::now() > deadline)
        throw TransportError("rank " + std::to_string(peer) + " has not come");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    all.emplace_back(words[peer].bytes, size - 1);
  }
  return all;
}

NamedScenario::NamedScenario(const char* name, Scenario scenario) { scenarios()[name] = scenario; }

std::vector<int> run_processes(const std::string& scenario, int world) {
  const SharedTable table = SharedTable::create();
  std::vector<pid_t> processes;
  for (int rank = 0; rank < world; ++rank)
    processes.push_back(start(scenario, rank, world, table.descriptor()));
  std::vector<int> statuses;
  for (const pid_t process : processes) statuses.push_back(status_of(process));
  return statuses;
}

}  // namespace ringtree::testing

/// This program is all tests, or one rank of one of them.
int main(int argc, char** argv) {
  using namespace ringtree::testing;
  if (argc == 6 && std::strcmp(argv[1], kFlag) == 0) {
    const int rank = std::atoi(argv[3]), world = std::atoi(argv[4]);
    alarm(kLongestScenario);
    SharedTable table = SharedTable::open(std::atoi(argv[5]));
    try {
      return scenarios().at(argv[2])(
          rank, world, [&](const std::string& own) { return table.exchange(rank, world, own); });
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      return 1;
    }
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
