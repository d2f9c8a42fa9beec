// What ranks tell each other before they share memory of GPUs, and what they decide by it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/gpu.h"
#include "cuda/fabric.h"
#include "cuda/protocol.h"

namespace ringtree {

/// Before they decide on a shape.
struct Introduction {
  std::array<char, 32> bus;  ///< of the GPU: the same for two processes that number it differently
  std::uint64_t process;
  int device;  ///< the GPU's number there
  int blocks;  ///< that the GPU holds at once
  int lanes;
  GpuProtocol protocol;  ///< that it wants; rank 0's counts, as those of:
  int channels;          ///< 0: by the GPUs
};

/// Once they have memory on their GPUs.
struct Invitation {
  bool reaches_all;    ///< so far as CUDA tells; if not, there is no memory
  bool carries_lines;  ///< to and from all
  std::byte* memory;
  cudaIpcMemHandle_t handle;
};

/// Once they have mapped the memory of all.
struct Acceptance {
  bool reaches_all;
};

/// Tells ranks of one process from those of others, also where containers give out the same process number.
std::uint64_t this_process();

/// Whether the rank is one of this process.
bool is_near(const Introduction& theirs);

/// Whether kernels on `device` can use memory of a peer's GPU; also if only the attempt will tell.
bool may_reach(int device, const Introduction& theirs);

/// Whether what kernels on `device` store in that GPU's memory at once arrives there at once, 16 bytes of it:
/// that is what GPUs can do which NVLink joins.
bool carries_lines(int device, const Introduction& theirs);

/// Of the calling thread's device. Throws TransportError if kernels of ringtree cannot run there.
Introduction introduce(int world);

/// Each rank's kernel by itself, or those of all in one cooperative launch, which needs all of its room at
/// once and waits until it has that.
enum class Launch { each, together };

/// The narrowest GPU decides for all: ranks have to cut a call into the same channels. The protocol is not
/// settled then. Throws TransportError, on all ranks, if a GPU has no room for a block of each of its ranks.
FabricShape shape_for(const std::vector<Introduction>& all, Launch launch);
/// The same for links in memory of the host.
FabricShape staged_shape_for(const std::vector<Introduction>& all);

/// All ranks' words, by rank. `make` gives this rank's; if it throws on one rank, all ranks throw.
template <class Make>
auto exchange_words(const GpuLibrary::Exchange& exchange, int rank, Make make) {
  using Words = decltype(make());
  constexpr std::size_t kText = 512;
  std::string payload(1 + (sizeof(Words) > kText ? sizeof(Words) : kText), '\0');
  std::exception_ptr own_error;
  try {
    const Words words = make();
    std::memcpy(payload.data() + 1, &words, sizeof(words));
  } catch (const Error& error) {
    own_error = std::current_exception();
    payload[0] = 'x';
    const std::string text = error.what();
    std::memcpy(payload.data() + 1, text.data(), text.size() < kText ? text.size() : kText - 1);
  }
  const std::vector<std::string> answers = exchange(payload);
  if (own_error) std::rethrow_exception(own_error);
  std::vector<Words> all(answers.size());
  for (std::size_t peer = 0; peer < answers.size(); ++peer) {
    if (answers[peer].size() != payload.size())
      throw TransportError("rank " + std::to_string(peer) + " runs another version of ringtree");
    if (answers[peer][0] != '\0')
      throw TransportError("rank " + std::to_string(peer) + " could not open the CUDA fabric, so rank " +
                               std::to_string(rank) + " did not either: " + (answers[peer].c_str() + 1),
                           {static_cast<int>(peer)});
    std::memcpy(&all[peer], answers[peer].data() + 1, sizeof(Words));
  }
  return all;
}

}  // namespace ringtree
