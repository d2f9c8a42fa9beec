// The steps that algorithms are made of: one piece from here to there, perhaps reduced on its way.
#pragma once

#include <cstddef>

#include "core/platform.h"
#include "core/span.h"
#include "core/stream.h"
#include "link/slots.h"

namespace ringtree {

/// Which operand the arriving piece is. Sums of floats do not mind; minima of -0.0 and 0.0 do, and every
/// rank must end with the same bits.
enum class Arrival { left, right };

/// What arrives is streamed past the caches if this call will not look at it again, and if it had no reason
/// to read those addresses before, as an in-place reduction has.
template <class Team, class T>
RT_HD void store(Team& team, T* destination, const std::byte* arrived, std::size_t count, Store how) {
  if (how == Store::streamed)
    team.stream(destination, reinterpret_cast<const T*>(arrived), count);
  else
    team.copy(destination, reinterpret_cast<const T*>(arrived), count);
}

/// Sends `piece`.
template <class Team, class To, class T>
RT_HD void push(Team& team, To to, Span<const T> piece) {
  auto way = team.way_to(to.peer(), piece.size_bytes());
  const Claim slot = to.claim(team, piece.size_bytes(), way.roams());
  team.put(way, reinterpret_cast<T*>(slot.data), piece.data(), piece.size());
  to.publish(team, slot, piece.size_bytes());
}

/// Receives `piece`.
template <class Team, class From, class T>
RT_HD void pull(Team& team, From from, Span<T> piece, Store how = Store::cached) {
  const Claim arrived = from.arrival(team, piece.size_bytes());
  store(team, piece.data(), arrived.data, piece.size(), how);
  from.release(team, arrived);
}

/// destination = arrival op local, or local op arrival.
template <class Team, class From, class T, class Op>
RT_HD void pull_combine(Team& team, From from, Span<T> destination, Span<const T> local, const Op& op,
                        Arrival side = Arrival::left) {
  const Claim arrived = from.arrival(team, local.size_bytes());
  const void* left_first[] = {arrived.data, local.data()};
  const void* right_last[] = {local.data(), arrived.data};
  team.combine(destination.data(), side == Arrival::left ? left_first : right_last, 2, local.size(), op);
  from.release(team, arrived);
}

/// Passes on what arrives, combined with `local`: slot to slot, `local` is only read.
template <class Team, class From, class To, class T, class Op>
RT_HD void relay(Team& team, From from, To to, Span<const T> local, const Op& op) {
  const Claim arrived = from.arrival(team, local.size_bytes());
  auto way = team.combining_way_to(to.peer(), local.size_bytes());
  const Claim slot = to.claim(team, local.size_bytes(), way.roams());
  const void* sources[] = {arrived.data, local.data()};
  team.put_combined(way, reinterpret_cast<T*>(slot.data), sources, 2, local.size(), op);
  to.publish(team, slot, local.size_bytes());
  from.release(team, arrived);
}

/// Keeps what arrives and passes it on.
template <class Team, class From, class To, class T>
RT_HD void forward(Team& team, From from, To to, Span<T> piece, Store how = Store::cached) {
  const Claim arrived = from.arrival(team, piece.size_bytes());
  auto way = team.way_to(to.peer(), piece.size_bytes());
  const Claim slot = to.claim(team, piece.size_bytes(), way.roams());
  team.put(way, reinterpret_cast<T*>(slot.data), reinterpret_cast<const T*>(arrived.data), piece.size());
  to.publish(team, slot, piece.size_bytes());
  store(team, piece.data(), arrived.data, piece.size(), how);
  from.release(team, arrived);
}

/// Returns when every rank has come here.
template <class Team, class Window>
RT_HD void assemble(Team& team, Window& window) {
  window.publish(team, window.claim(team, 0), 0);
  window.each_view(team, std::size_t{0}, [](int, const std::byte*) {});
  window.done(team);
}

/// Shows `piece` to every peer. Returns where it lies until the turn is done.
template <class Team, class Window, class T>
RT_HD const std::byte* post(Team& team, Window& window, Span<const T> piece) {
  auto way = team.way_to_all(piece.size_bytes());
  const Claim slot = window.claim(team, piece.size_bytes(), way.roams());
  team.put(way, reinterpret_cast<T*>(slot.data), piece.data(), piece.size());
  window.publish(team, slot, piece.size_bytes());
  return slot.data;
}

/// Shows it to `reader` alone.
template <class Team, class Window, class T>
RT_HD void post_to(Team& team, Window& window, int reader, Span<const T> piece) {
  auto way = team.way_to(reader, piece.size_bytes());
  const Claim slot = window.claim(team, piece.size_bytes(), way.roams());
  team.put(way, reinterpret_cast<T*>(slot.data), piece.data(), piece.size());
  window.publish_to(team, reader, slot, piece.size_bytes());
}

/// Shows every other rank a part of its own: part_of(peer), of `width` elements at most.
template <class T, class Team, class Links, class Window, class PartOf>
RT_HD void post_parts(Team& team, Links& links, Window& window, std::size_t width, PartOf part_of) {
  const Claim slot = window.claim_parts(team, width * sizeof(T), team.roams_to_any(width * sizeof(T)));
  const std::size_t stride = window.part_stride(width * sizeof(T));
  for (int peer = 0; peer < links.world(); ++peer) {
    if (peer == links.rank()) continue;
    const Span<const T> part = part_of(peer);
    auto way = team.way_to(peer, part.size_bytes());
    team.put(way, reinterpret_cast<T*>(slot.data + static_cast<unsigned>(peer) * stride), part.data(),
             part.size());
  }
  window.publish_parts(team, slot, width * sizeof(T));
}

/// Reads what `peer` shows.
template <class Team, class Window, class T>
RT_HD void fetch(Team& team, Window& window, int peer, Span<T> piece, Store how = Store::cached) {
  const std::byte* shown = window.view(team, peer, piece.size_bytes());
  store(team, piece.data(), shown, piece.size(), how);
}

/// Reads what every other rank shows: as much as part_of(peer) holds, `width` elements at most.
template <class T, class Team, class Window, class PartOf>
RT_HD void fetch_all(Team& team, Window& window, std::size_t width, PartOf part_of,
                     Store how = Store::cached) {
  window.each_view(
      team, width * sizeof(T), [&](int peer) { return part_of(peer).size_bytes(); },
      [&](int peer, const std::byte* shown) {
        const Span<T> part = part_of(peer);
        store(team, part.data(), shown, part.size(), how);
      });
}

}  // namespace ringtree
