// The process of a peer, as one that may take copies of its open files.
#pragma once

#include "core/gpu.h"

namespace ringtree {

/// A descriptor of this process, or none: -1.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int number() const { return number_; }

 private:
  int number_ = -1;
};

/// Of the calling process, for others.
ProcessMark mark_of_this_process();

class PeerProcess {
 public:
  /// If ptrace's rules (proc(5), Yama) keep this process from the peer, or another one has its number here,
  /// there is nothing to take.
  explicit PeerProcess(const ProcessMark& mark);

  /// A copy of the peer's descriptor.
  Descriptor take(int number) const;

 private:
  Descriptor process_;
};

}  // namespace ringtree
