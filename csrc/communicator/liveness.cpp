#include "communicator/liveness.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ringtree {

bool has_ended(int pid) {
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (descriptor < 0) return errno == ESRCH;
  pollfd request{descriptor, POLLIN, 0};
  const bool ended = poll(&request, 1, 0) > 0;
  close(descriptor);
  return ended;
}

Liveness::Liveness(Segment& segment, int rank) {
  for (int peer = 0; peer < segment.world(); ++peer) {
    const int pid = segment.board(peer).pid;
    if (peer == rank || pid == getpid()) continue;
    const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (descriptor < 0 && errno != ESRCH)
      throw TransportError("rank " + std::to_string(rank) + " cannot watch rank " + std::to_string(peer) +
                           " (process " + std::to_string(pid) + "): " + std::strerror(errno) +
                           "; ranks must share a process namespace, and Linux must be 5.3 or newer");
    watched_.push_back({peer, descriptor});
  }
}

Liveness::~Liveness() {
  for (const Watched& peer : watched_)
    if (peer.descriptor >= 0) close(peer.descriptor);
}

std::vector<int> Liveness::dead() const {
  std::vector<pollfd> requests;
  requests.reserve(watched_.size());
  for (const Watched& peer : watched_) requests.push_back({peer.descriptor, POLLIN, 0});
  std::vector<int> ranks;
  poll(requests.data(), requests.size(), 0);  // passes over negative descriptors
  for (std::size_t i = 0; i < watched_.size(); ++i)
    if (watched_[i].descriptor < 0 || requests[i].revents != 0) ranks.push_back(watched_[i].rank);
  return ranks;
}

}  // namespace ringtree
