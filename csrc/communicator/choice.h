// Which algorithm "auto" takes: the cheapest by declared cost and measured constants, or what the user's
// rules say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "communicator/host_entry.h"
#include "link/layout.h"

namespace ringtree {

/// An algorithm for buffers of up to so many bytes.
struct Rule {
  std::size_t up_to_bytes;
  std::uint8_t algorithm;  ///< index in the catalogue
};

/// Names of the algorithms of a collective, in the catalogue's order.
std::vector<std::string> algorithms_of(Collective collective);

/// Throws InvalidArgument, with the names there are.
std::uint8_t find_algorithm(Collective collective, const std::string& name);
Collective find_collective(const std::string& name);
std::vector<Rule> find_rules(Collective collective,
                             const std::vector<std::pair<std::size_t, std::string>>& rules);

/// Time = steps * step_us + moved bytes / bytes_per_us.
struct Constants {
  double step_us;
  double bytes_per_us;
};

/// For ranks with a core each, or for ranks that outnumber the cores.
const Constants& constants_of(bool oversubscribed);

/// A call of `bytes` in a world with this layout.
Priced priced(const LinkLayout& layout, std::size_t bytes);

/// Where calls run, and which algorithms serve there.
struct Pricing {
  int world;
  double piece_bytes;  ///< as in Priced
  Constants constants;
  bool on_gpu;
  bool reaches;  ///< those that use their peers' buffers, too

  static Pricing of_host(const LinkLayout& layout, bool oversubscribed);
  /// What kernels reach of their peers: also the arrays that they are given; the links alone; or not even
  /// those, which lie in memory of the host then.
  enum class Reach { arrays, links, staged };
  static Pricing of_gpu(int world, std::size_t piece_bytes, Reach reach);

  bool allows(const HostEntry& entry) const;
};

class Choice {
 public:
  explicit Choice(const Pricing& pricing);

  /// `bytes` as in Priced; `even`: whether all shares have one size.
  std::uint8_t choose(Collective collective, std::size_t bytes, bool even) const;

  /// Replaces the rules of a collective. Ascending; the last one holds for all larger sizes.
  void prefer(Collective collective, std::vector<Rule> rules);

  /// Takes this one for all sizes, and no other.
  void force(Collective collective, std::uint8_t algorithm);
  bool is_forced(Collective collective) const { return forced_[static_cast<std::size_t>(collective)]; }

 private:
  std::array<std::vector<Rule>, kCollectives> rules_;
  std::array<std::uint8_t, kCollectives>
      uneven_{};  ///< taken where the rules' choice is for even shares only
  std::array<bool, kCollectives> forced_{};
};

}  // namespace ringtree
