#include "communicator/choice.h"

#include <limits>

#include "core/errors.h"

namespace ringtree {
namespace {

/// Measured on two cores of an AMD EPYC (Zen 5); how is in docs/measuring.md. A machine that differs runs
/// `ringtree tune`.
constexpr Constants kOwnCores{0.2, 18'000};
constexpr Constants kSharedCores{4.0, 9'000};
/// Not measured: what is published of flags and links between GPUs (8 of them, NVLink 4).
constexpr Constants kGpu{2.5, 400'000};
/// Not measured either: where messages go through memory of the host, over 16 lanes of PCIe 4 or 5.
constexpr Constants kStagedGpu{8, 25'000};

double predicted_us(const HostEntry& entry, const Priced& call, const Constants& constants) {
  const Cost cost = entry.cost(call);
  return cost.steps * constants.step_us + cost.moved_bytes / constants.bytes_per_us;
}

}  // namespace

std::vector<std::string> algorithms_of(Collective collective) {
  std::vector<std::string> names;
  for (const HostEntry& entry : catalogue())
    if (entry.collective == collective) names.emplace_back(entry.name);
  return names;
}

std::uint8_t find_algorithm(Collective collective, const std::string& name) {
  std::string known;
  for (std::size_t i = 0; i < catalogue().size(); ++i) {
    const HostEntry& entry = catalogue()[i];
    if (entry.collective != collective) continue;
    if (name == entry.name) return static_cast<std::uint8_t>(i);
    known += std::string(", ") + entry.name;
  }
  throw InvalidArgument("there is no algorithm '" + name + "' for " +
                        kCollectiveNames[static_cast<std::size_t>(collective)] + "; there are auto" + known);
}

Collective find_collective(const std::string& name) {
  std::string known;
  for (std::size_t i = 0; i < kCollectives; ++i) {
    if (name == kCollectiveNames[i]) return static_cast<Collective>(i);
    known += (i == 0 ? "" : ", ") + std::string(kCollectiveNames[i]);
  }
  throw InvalidArgument("there is no collective '" + name + "'; there are " + known);
}

std::vector<Rule> find_rules(Collective collective,
                             const std::vector<std::pair<std::size_t, std::string>>& rules) {
  std::vector<Rule> found;
  found.reserve(rules.size());
  for (const auto& [up_to_bytes, name] : rules)
    found.push_back({up_to_bytes, find_algorithm(collective, name)});
  return found;
}

const Constants& constants_of(bool oversubscribed) { return oversubscribed ? kSharedCores : kOwnCores; }

Priced priced(const LinkLayout& layout, std::size_t bytes) {
  return {layout.world, static_cast<double>(bytes),
          static_cast<double>(layout.window.slot_bytes) / layout.world};
}

Pricing Pricing::of_host(const LinkLayout& layout, bool oversubscribed) {
  return {layout.world, priced(layout, 0).piece_bytes, constants_of(oversubscribed), false, false};
}

Pricing Pricing::of_gpu(int world, std::size_t piece_bytes, Reach reach) {
  const Constants& constants = reach == Reach::staged ? kStagedGpu : kGpu;
  return {world, static_cast<double>(piece_bytes), constants, true, reach == Reach::arrays};
}

bool Pricing::allows(const HostEntry& entry) const {
  return (reaches || entry.access == Access::none) && !(on_gpu && entry.host_only);
}

Choice::Choice(const Pricing& pricing) {
  for (std::size_t c = 0; c < kCollectives; ++c) {
    for (int exponent = 3; exponent <= 40; ++exponent) {
      const Priced call{pricing.world, static_cast<double>(std::size_t{1} << exponent), pricing.piece_bytes};
      double best = std::numeric_limits<double>::infinity();
      Rule rule{std::size_t{1} << exponent, 0};
      for (std::size_t i = 0; i < catalogue().size(); ++i) {
        const HostEntry& entry = catalogue()[i];
        if (entry.collective != static_cast<Collective>(c) || !pricing.allows(entry)) continue;
        if (!entry.even_only) uneven_[c] = static_cast<std::uint8_t>(i);
        const double time = predicted_us(entry, call, pricing.constants);
        if (time < best) {
          best = time;
          rule.algorithm = static_cast<std::uint8_t>(i);
        }
      }
      if (!rules_[c].empty() && rules_[c].back().algorithm == rule.algorithm)
        rules_[c].back().up_to_bytes = rule.up_to_bytes;
      else
        rules_[c].push_back(rule);
    }
  }
}

std::uint8_t Choice::choose(Collective collective, std::size_t bytes, bool even) const {
  const auto c = static_cast<std::size_t>(collective);
  std::uint8_t chosen = rules_[c].back().algorithm;
  for (const Rule& rule : rules_[c]) {
    if (bytes <= rule.up_to_bytes) {
      chosen = rule.algorithm;
      break;
    }
  }
  return even || !catalogue()[chosen].even_only ? chosen : uneven_[c];
}

void Choice::prefer(Collective collective, std::vector<Rule> rules) {
  if (rules.empty()) throw InvalidArgument("prefer() needs at least one rule");
  for (std::size_t i = 1; i < rules.size(); ++i)
    if (rules[i - 1].up_to_bytes >= rules[i].up_to_bytes)
      throw InvalidArgument("prefer() needs rules in ascending order of size");
  rules_[static_cast<std::size_t>(collective)] = std::move(rules);
}

void Choice::force(Collective collective, std::uint8_t algorithm) {
  prefer(collective, {{std::numeric_limits<std::size_t>::max(), algorithm}});
  forced_[static_cast<std::size_t>(collective)] = true;
}

}  // namespace ringtree
