// Ranks that are threads of one process: plain memory, found by name in a table of the process.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

#include "core/errors.h"
#include "transports/transport.h"

namespace ringtree {
namespace {

struct Pages {
  explicit Pages(std::size_t size)
      : size(size), data(static_cast<std::byte*>(::operator new(size, std::align_val_t{4096}))) {
    std::fill_n(data, size, std::byte{0});
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::operator delete(data, std::align_val_t{4096}); }

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
