#include "cuda/peer_process.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "cuda/introduction.h"

// glibc has known it since 2.36; the same number on every architecture.
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

namespace ringtree {
namespace {

/// Whether the process that has the number here has the word in its memory.
bool bears(const ProcessMark& mark) {
  std::uint64_t found = 0;
  const iovec to{&found, sizeof(found)};
  const iovec from{reinterpret_cast<void*>(mark.address), sizeof(found)};
  return process_vm_readv(mark.pid, &to, 1, &from, 1, 0) == sizeof(found) && found == mark.word;
}

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

ProcessMark mark_of_this_process() {
  static const std::uint64_t word = this_process();
  return {getpid(), reinterpret_cast<std::uint64_t>(&word), word};
}

PeerProcess::PeerProcess(const ProcessMark& mark) {
  Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, mark.pid, 0)));
  if (process.number() >= 0 && bears(mark)) process_ = std::move(process);
}

Descriptor PeerProcess::take(int number) const {
  if (process_.number() < 0) return {};
  return Descriptor(static_cast<int>(syscall(SYS_pidfd_getfd, process_.number(), number, 0)));
}

}  // namespace ringtree
