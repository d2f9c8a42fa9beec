// Ranks that are threads of one process: plain memory, found by name in a table of the process.
#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <map>
#include <mutex>
#include <new>

#include "core/errors.h"
#include "transports/transport.h"

namespace ringtree {
namespace {

struct Pages {
  explicit Pages(std::size_t size) : size(size) {
    void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    data = static_cast<std::byte*>(mapped);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(data, size); }

  std::size_t size;
  std::byte* data;
};

/// Named blocks whose name is not forgotten yet.
struct Table {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Pages>> blocks;
};

Table& table() {
  static Table instance;
  return instance;
}

class SharedPages : public Memory {
 public:
  explicit SharedPages(std::shared_ptr<Pages> block)
      : Memory(block->data, block->size), block_(std::move(block)) {}

 private:
  std::shared_ptr<Pages> block_;
};

class ThreadsTransport : public Transport {
 public:
  std::string reach() const override { return "process " + std::to_string(getpid()); }

  std::size_t free_bytes() const override { return std::numeric_limits<std::size_t>::max(); }

  std::pair<std::string, std::unique_ptr<Memory>> create(std::size_t size) override {
    const std::string name = random_name();
    auto block = std::make_shared<Pages>(size);
    const std::lock_guard lock(table().mutex);
    table().blocks[name] = block;
    return {name, std::make_unique<SharedPages>(std::move(block))};
  }

  std::unique_ptr<Memory> open(const std::string& name, std::size_t size) override {
    const std::lock_guard lock(table().mutex);
    const auto found = table().blocks.find(name);
    if (found == table().blocks.end() || found->second->size != size)
      throw TransportError("rank 0's memory is not in this process: the threads transport joins threads");
    return std::make_unique<SharedPages>(found->second);
  }

  void forget(const std::string& name) noexcept override {
    const std::lock_guard lock(table().mutex);
    table().blocks.erase(name);
  }
};

}  // namespace

std::unique_ptr<Transport> make_threads_transport() { return std::make_unique<ThreadsTransport>(); }

}  // namespace ringtree
