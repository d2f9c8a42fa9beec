// The steps that algorithms are made of: one piece from here to there, perhaps reduced on its way.
#pragma once

#include <cstddef>

#include "core/platform.h"
#include "core/span.h"
#include "link/slots.h"
#include "link/window.h"

namespace ringtree {

/// Which operand the arriving piece is. Sums of floats do not mind; minima of -0.0 and 0.0 do, and every
/// rank must end with the same bits.
enum class Arrival { left, right };

/// How what arrives is written: streamed past the caches if this call will not look at it again, and if it
/// had no reason to read those addresses before, as an in-place reduction has.
enum class Store { cached, streamed };

template <class Team, class T>
RT_HD void store(Team& team, T* destination, const std::byte* arrived, std::size_t count, Store how) {
  if (how == Store::streamed)
    team.stream(destination, reinterpret_cast<const T*>(arrived), count);
  else
    team.copy(destination, reinterpret_cast<const T*>(arrived), count);
}

/// Sends `piece`.
template <class Team, class T>
RT_HD void push(Team& team, Sender to, Span<const T> piece) {
  const Claim slot = to.claim(team, piece.size_bytes());
  team.copy(reinterpret_cast<T*>(slot.data), piece.data(), piece.size());
  to.publish(team, slot, piece.size_bytes());
}

/// Receives `piece`.
template <class Team, class T>
RT_HD void pull(Team& team, Receiver from, Span<T> piece, Store how = Store::cached) {
  const Claim arrived = from.arrival(team, piece.size_bytes());
  store(team, piece.data(), arrived.data, piece.size(), how);
  from.release(team, arrived);
}

/// destination = arrival op local, or local op arrival.
template <class Team, class T, class Op>
RT_HD void pull_combine(Team& team, Receiver from, Span<T> destination, Span<const T> local, const Op& op,
                        Arrival side = Arrival::left) {
  const Claim arrived = from.arrival(team, local.size_bytes());
  const void* left_first[] = {arrived.data, local.data()};
  const void* right_last[] = {local.data(), arrived.data};
  team.combine(destination.data(), side == Arrival::left ? left_first : right_last, 2, local.size(), op);
  from.release(team, arrived);
}

/// Passes on what arrives, combined with `local`: slot to slot, `local` is only read.
template <class Team, class T, class Op>
RT_HD void relay(Team& team, Receiver from, Sender to, Span<const T> local, const Op& op) {
  const Claim arrived = from.arrival(team, local.size_bytes());
  const Claim slot = to.claim(team, local.size_bytes());
  const void* sources[] = {arrived.data, local.data()};
  team.combine(reinterpret_cast<T*>(slot.data), sources, 2, local.size(), op);
  to.publish(team, slot, local.size_bytes());
  from.release(team, arrived);
}

/// Keeps what arrives and passes it on.
template <class Team, class T>
RT_HD void forward(Team& team, Receiver from, Sender to, Span<T> piece, Store how = Store::cached) {
  const Claim arrived = from.arrival(team, piece.size_bytes());
  const Claim slot = to.claim(team, piece.size_bytes());
  team.copy(reinterpret_cast<T*>(slot.data), reinterpret_cast<const T*>(arrived.data), piece.size());
  to.publish(team, slot, piece.size_bytes());
  store(team, piece.data(), arrived.data, piece.size(), how);
  from.release(team, arrived);
}

/// Returns when every rank has come here.
template <class Team, class Window>
RT_HD void assemble(Team& team, Window& window, int world) {
  window.publish(team, window.claim(team, 0), 0);
  for (int peer = 0; peer < world; ++peer) window.view(team, peer, 0);
  window.done(team);
}

/// Shows `piece` to every peer.
template <class Team, class Window, class T>
RT_HD void post(Team& team, Window& window, Span<const T> piece) {
  const Claim slot = window.claim(team, piece.size_bytes());
  team.copy(reinterpret_cast<T*>(slot.data), piece.data(), piece.size());
  window.publish(team, slot, piece.size_bytes());
}

/// Reads what `peer` shows.
template <class Team, class Window, class T>
RT_HD void fetch(Team& team, Window& window, int peer, Span<T> piece, Store how = Store::cached) {
  const std::byte* shown = window.view(team, peer, piece.size_bytes());
  store(team, piece.data(), shown, piece.size(), how);
}

}  // namespace ringtree
