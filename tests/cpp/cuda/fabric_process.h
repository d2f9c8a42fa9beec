// One rank in a process of its own, with the fabric that connects it.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "core/gpu.h"
#include "cuda/fabric.h"
#include "cuda/tasks.h"
#include "transports/transport.h"

namespace ringtree::testing {

/// Shared memory, and how many of its segments have a name.
class CountedTransport : public Transport {
 public:
  std::string reach() const override { return shm_->reach(); }
  std::size_t free_bytes() const override { return shm_->free_bytes(); }
  std::pair<std::string, std::unique_ptr<Memory>> create(std::size_t size) override {
    ++names_;
    return shm_->create(size);
  }
  std::unique_ptr<Memory> open(const std::string& name, std::size_t size) override {
    return shm_->open(name, size);
  }
  void forget(const std::string& name) noexcept override {
    --names_;
    shm_->forget(name);
  }

  int names() const { return names_; }

 private:
  std::unique_ptr<Transport> shm_ = make_transport("shm");
  int names_ = 0;
};

/// One rank, in its own process.
struct Process {
  int rank, world;
  GpuLibrary::Exchange exchange;
  CountedTransport transport{};
  std::unique_ptr<Memory> tables{};  ///< of blocks, once they are shared
  std::unique_ptr<Fabric> fabric = Fabric::of_rank(rank, world, exchange, transport);
  std::uint64_t calls = 0;

  void enqueue(const GpuTask& task, const void* in, void* out, cudaStream_t stream) {
    const GpuBuffers buffers{in, out};
    fabric->launch(numbered(task, ++calls), {&buffers, 1}, stream);
  }

  /// And waits for its end.
  void launch(const GpuTask& task, const void* in, void* out) {
    enqueue(task, in, out, nullptr);
    check_cuda(cudaDeviceSynchronize(), "a call");
  }

  /// From now on ranks may use each other's arrays. Collective.
  void share_blocks() {
    const std::size_t bytes = static_cast<std::size_t>(world) * sizeof(GpuBlockTable);
    std::string name;
    if (rank == 0) std::tie(name, tables) = transport.create(bytes);
    name = exchange(name)[0];
    if (rank != 0) tables = transport.open(name, bytes);
    exchange("");
    if (rank == 0) transport.forget(name);
    fabric->share_blocks(reinterpret_cast<GpuBlockTable*>(tables->data()), exchange);
  }

  /// Nobody takes memory away that another rank uses.
  void leave() { exchange(""); }
};

#define REQUIRE(condition)                                                           \
  if (!(condition)) {                                                                \
    std::fprintf(stderr, "rank %d, line %d: %s\n", self.rank, __LINE__, #condition); \
    return 1;                                                                        \
  }

}  // namespace ringtree::testing
