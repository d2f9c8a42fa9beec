// Ranks that are processes of one host: a POSIX shared-memory segment.
//
// The name is unguessable, the mode 0600, and the name is gone as soon as all ranks have mapped the segment:
// after that not even kill -9 leaves anything in /dev/shm.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/descriptor.h"
#include "core/errors.h"
#include "transports/transport.h"

namespace ringtree {
namespace {

constexpr const char* kDirectory = "/dev/shm";

class Mapping : public Memory {
 public:
  using Memory::Memory;
  ~Mapping() override { munmap(data(), size()); }
};

std::string mebibytes(std::size_t bytes) { return std::to_string((bytes + (1U << 20U) - 1) >> 20U) + " MiB"; }

std::unique_ptr<Memory> map(const Descriptor& file, std::size_t size) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.number(), 0);
  if (data == MAP_FAILED)
    throw TransportError("mapping a shared segment of " + mebibytes(size) +
                         " failed: " + std::strerror(errno));
  return std::make_unique<Mapping>(static_cast<std::byte*>(data), size);
}

class ShmTransport : public Transport {
 public:
  /// The same kernel and the same /dev/shm: containers on one host may have one each.
  std::string reach() const override {
    std::string boot;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
    struct stat directory{};
    if (stat(kDirectory, &directory) != 0)
      throw TransportError(std::string("there is no ") + kDirectory + " here: mount a tmpfs there");
    return boot + ":" + std::to_string(directory.st_dev);
  }

  std::size_t free_bytes() const override {
    struct statvfs space{};
    return statvfs(kDirectory, &space) == 0 ? static_cast<std::size_t>(space.f_bavail) * space.f_frsize : 0;
  }

  std::pair<std::string, std::unique_ptr<Memory>> create(std::size_t size) override {
    const std::string name = "/ringtree-" + random_name();
    const Descriptor file(shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
    if (file.number() < 0)
      throw TransportError("creating a segment in " + std::string(kDirectory) +
                           " failed: " + std::strerror(errno));
    // Reserves every page now: a full /dev/shm is an error here, not a SIGBUS in the middle of a call.
    if (const int error = posix_fallocate(file.number(), 0, static_cast<off_t>(size)); error != 0) {
      forget(name);
      throw TransportError("the communicator needs " + mebibytes(size) + " in " + kDirectory +
                           ", which has " + mebibytes(free_bytes()) + " free (" + std::strerror(error) +
                           "): free some or mount it larger (docker run --shm-size)");
    }
    try {
      return {name, map(file, size)};
    } catch (...) {
      forget(name);
      throw;
    }
  }

  std::unique_ptr<Memory> open(const std::string& name, std::size_t size) override {
    const Descriptor file(shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0));
    if (file.number() < 0)
      throw TransportError("opening rank 0's shared segment failed: " + std::string(std::strerror(errno)));
    struct stat status{};
    if (fstat(file.number(), &status) != 0 || static_cast<std::size_t>(status.st_size) != size)
      throw TransportError("rank 0's shared segment has " + std::to_string(status.st_size) +
                           " bytes instead of " + std::to_string(size) +
                           ": do all ranks run the same ringtree?");
    return map(file, size);
  }

  void forget(const std::string& name) noexcept override { shm_unlink(name.c_str()); }
};

}  // namespace

std::unique_ptr<Transport> make_shm_transport() { return std::make_unique<ShmTransport>(); }

}  // namespace ringtree
