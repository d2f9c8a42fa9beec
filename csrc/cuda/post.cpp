#include "cuda/post.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>

namespace ringtree {
namespace {

/// Where a rank is to be found: an abstract name, which another network namespace may give to somebody else,
/// and so a word that nobody else knows.
struct Address {
  sockaddr_un name;
  socklen_t length;  ///< 0: nowhere
  std::uint64_t word;
};

/// The first message of a connection: from whom, to whom.
struct Greeting {
  std::uint64_t word;
  std::size_t rank;
};

Descriptor make_socket() {
  return Descriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/// Under a name that the kernel chooses.
std::pair<Descriptor, Address> listening(std::size_t peers) {
  std::random_device random;
  Address address{};
  address.word = std::uint64_t{random()} << 32U | random();
  address.length = sizeof(address.name);
  address.name.sun_family = AF_UNIX;
  auto* const name = reinterpret_cast<sockaddr*>(&address.name);
  Descriptor listener = make_socket();
  if (listener.number() < 0 || bind(listener.number(), name, sizeof(sa_family_t)) != 0 ||
      listen(listener.number(), static_cast<int>(peers)) != 0 ||
      getsockname(listener.number(), name, &address.length) != 0)
    address.length = 0;
  return {std::move(listener), address};
}

bool is_of_this_user(const Descriptor& connection) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return getsockopt(connection.number(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         peer.uid == geteuid();
}

Descriptor connected(const Address& address, std::size_t own_rank) {
  Descriptor connection = make_socket();
  const Greeting greeting{address.word, own_rank};
  if (address.length == 0 ||
      connect(connection.number(), reinterpret_cast<const sockaddr*>(&address.name), address.length) != 0 ||
      !is_of_this_user(connection) ||
      ::send(connection.number(), &greeting, sizeof(greeting), MSG_NOSIGNAL) != sizeof(greeting))
    return {};
  return connection;
}

/// Room for the descriptors of one message, as the kernel lays them out.
struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(Post::kMostDescriptors * sizeof(int))];
};

}  // namespace

Post::Post(std::size_t rank, const std::vector<bool>& is_near, const GpuExchange& exchange)
    : peers_(is_near.size()) {
  const auto [listener, own] = listening(is_near.size());
  const std::vector<std::string> addresses =
      exchange(std::string(reinterpret_cast<const char*>(&own), sizeof(own)));
  for (std::size_t peer = 0; peer < rank; ++peer) {
    Address address{};
    if (is_near[peer] || addresses[peer].size() != sizeof(address)) continue;
    std::memcpy(&address, addresses[peer].data(), sizeof(address));
    peers_[peer] = connected(address, rank);
  }
  exchange("greeted");  // from here on all connections are waiting to be accepted, with their greetings
  for (;;) {
    Descriptor connection(accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.number() < 0) return;
    Greeting greeting{};
    if (is_of_this_user(connection) &&
        recv(connection.number(), &greeting, sizeof(greeting), 0) == sizeof(greeting) &&
        greeting.word == own.word && greeting.rank > rank && greeting.rank < peers_.size())
      peers_[greeting.rank] = std::move(connection);
  }
}

Post::Sent Post::send(std::size_t peer, std::span<const int> descriptors) {
  const std::uint64_t count = descriptors.size();
  Control control{};
  iovec text{const_cast<std::uint64_t*>(&count), sizeof(count)};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  if (peers_[peer].number() < 0) return Sent::never;
  if (sendmsg(peers_[peer].number(), &message, MSG_NOSIGNAL) >= 0) return Sent::yes;  // all of it
  if (errno == EAGAIN || errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM || errno == EINTR)
    return Sent::later;
  peers_[peer] = {};
  return Sent::never;
}

std::vector<Descriptor> Post::receive(std::size_t peer) {
  std::uint64_t count = 0;
  Control control{};
  iovec text{&count, sizeof(count)};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  std::vector<Descriptor> descriptors;
  if (peers_[peer].number() < 0 || recvmsg(peers_[peer].number(), &message, MSG_CMSG_CLOEXEC) < 0)
    return descriptors;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const unsigned char* const data = CMSG_DATA(part);
    const auto bytes =
        static_cast<std::size_t>(reinterpret_cast<unsigned char*>(part) + part->cmsg_len - data);
    for (std::size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int number = -1;
      std::memcpy(&number, data + at, sizeof(number));
      descriptors.emplace_back(number);
    }
  }
  // The peer has gone, or this process had no room for all of them. What comes next would be taken for this.
  if (descriptors.empty() || descriptors.size() != count) {
    descriptors.clear();
    peers_[peer] = {};
  }
  return descriptors;
}

}  // namespace ringtree
