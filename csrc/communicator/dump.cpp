#include "communicator/dump.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "communicator/snapshot.h"

namespace ringtree {

std::string dump(const Segment& segment, int rank) {
  const char* folder = std::getenv("RINGTREE_TRACE_DIR");
  if (folder == nullptr || *folder == '\0') return "";
  const std::filesystem::path path =
      std::filesystem::path(folder) /
      (std::string(segment.hall().name.data()) + "-" + std::to_string(rank) + ".json");
  std::string advice =
      " What led to it is in " + path.string() + ": run ringtree trace " + std::string(folder) + ".";
  std::error_code error;
  if (std::filesystem::exists(path, error)) return advice;  // the first error tells most

  // Under another name until it is complete, so that nobody ever reads a part.
  const std::filesystem::path draft = path.string() + ".part";
  std::filesystem::create_directories(folder, error);
  std::ofstream file(draft, std::ios::binary);
  file << snapshot(segment, rank) << '\n';
  file.close();
  if (file) std::filesystem::rename(draft, path, error);
  if (!file || error) return " What led to it could not be written to " + path.string() + ".";
  return advice;
}

}  // namespace ringtree
