// Ranks that are processes: this program, started anew for each with the descriptor of a file through which
// they exchange words.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/gpu.h"

namespace ringtree::testing {

inline constexpr int kMostProcesses = 4;

/// A file in memory that all processes of a world map.
class SharedTable {
 public:
  static SharedTable create();
  /// Of which another process has said descriptor().
  static SharedTable open(int descriptor);
  SharedTable(const SharedTable&) = delete;
  SharedTable& operator=(const SharedTable&) = delete;
  ~SharedTable();

  int descriptor() const { return descriptor_; }

  /// All ranks' words. Throws TransportError if one does not come.
  std::vector<std::string> exchange(int rank, int world, const std::string& own);

 private:
  static constexpr std::size_t kTurns = 64, kWordBytes = 2048;

  struct Word {
    std::atomic<std::uint32_t> bytes_and_one;  ///< 0: not there yet
    char bytes[kWordBytes];
  };
  struct Table {
    Word words[kTurns][kMostProcesses];
  };

  explicit SharedTable(int descriptor);

  int descriptor_;
  Table* table_;
  std::size_t turn_ = 0;
};

/// What one rank does; its exit status.
using Scenario = int (*)(int rank, int world, const GpuLibrary::Exchange& exchange);

/// For run_processes(): one at the end of a file for each of its scenarios.
class NamedScenario {
 public:
  NamedScenario(const char* name, Scenario scenario);
};

/// Starts `scenario` on `world` ranks and returns the status with which each has ended.
std::vector<int> run_processes(const std::string& scenario, int world);

/// The statuses if every rank ends well.
inline std::vector<int> all_well(int world) { return std::vector<int>(static_cast<std::size_t>(world)); }

}  // namespace ringtree::testing
