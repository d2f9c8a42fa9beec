#include "transports/transport.h"

#include <sys/random.h>

#include <array>
#include <cstdio>

#include "core/errors.h"

namespace ringtree {

std::unique_ptr<Transport> make_transport(const std::string& name) {
  std::string known;
  for (const TransportEntry& entry : transports()) {
    if (name == entry.name) return entry.make();
    known += known.empty() ? entry.name : std::string(", ") + entry.name;
  }
  throw InvalidArgument("unknown transport '" + name + "'; this build has: " + known);
}

std::string random_name() {
  std::array<unsigned char, 16> bits{};
  if (getrandom(bits.data(), bits.size(), 0) != static_cast<ssize_t>(bits.size()))
    throw TransportError("the kernel gave no random bits for the name of a shared segment");
  std::string name;
  for (const unsigned char byte : bits) {
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", byte);
    name += digits.data();
  }
  return name;
}

}  // namespace ringtree
