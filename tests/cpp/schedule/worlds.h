// The world sizes for which every schedule is checked.
#pragma once

#include <vector>

namespace ringtree {

inline std::vector<int> worlds() {
  std::vector<int> sizes;
  for (int world = 1; world <= 64; ++world) sizes.push_back(world);
  sizes.insert(sizes.end(), {96, 128, 257, 1000});
  return sizes;
}

}  // namespace ringtree
