// Dissemination: in step k every rank tells the one 2^k further on, so after ceil(log2 n) steps each has
// heard, directly or not, from all.
// Source: D. Hensgen, R. Finkel, U. Manber, Two algorithms for barrier synchronization, IJPP 17 (1988).
#pragma once

#include "core/platform.h"
#include "schedule/ring.h"

namespace ringtree {

RT_HD constexpr int dissemination_steps(int world) {
  int steps = 0;
  while ((1 << steps) < world) ++steps;
  return steps;
}

struct DisseminationStep {
  int to, from;
};

RT_HD constexpr DisseminationStep dissemination_step(int rank, int world, int step) {
  return {modulo(rank + (1 << step), world), modulo(rank - (1 << step), world)};
}

}  // namespace ringtree
