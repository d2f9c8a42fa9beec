"""What each collective means, as data: its buffers, its bandwidth factor, its least traffic, its result.

Words: `count` is the number that nccl-tests prints: elements of the array for all_reduce, reduce, broadcast
and sendrecv, elements of one rank's share for the others. `size` is the bytes of the whole array in each case
(https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md). The root is always rank 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

ROOT = 0


@dataclass(frozen=True)
class Segment:
    """`length` elements of a rank's result, from `start`: the same elements of every source, combined.

    A collective that reduces has every rank as a source; one that only moves data has a single source.
    """

    start: int
    length: int
    sources: tuple[int, ...]
    source_start: int


# A number that follows from the world size n; a rank's whole result, given (rank, n, count).
OfWorld = Callable[[int], float]
Result = Callable[[int, int, int], list[Segment]]


@dataclass(frozen=True)
class Collective:
    """One row of the catalogue."""

    name: str
    reduces: bool
    in_place: bool  # the result replaces the input, as gradients are reduced
    shared: bool  # the array is divided among the ranks: size = n * count elements, else count elements
    bus_factor: OfWorld  # busbw / algbw
    reads: OfWorld  # least that all ranks together read from, and write to, memory; in units of the size
    writes: OfWorld
    sends: Callable[[int], int]  # elements of a rank's input, in units of count
    receives: Callable[[int], int]  # elements of its output, in units of count; 0: in place
    segments: Result


def _everyone(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(0, count, tuple(range(n)), 0)]


def _on_root(segments: Result) -> Result:
    return lambda rank, n, count: segments(rank, n, count) if rank == ROOT else []


def _from_root(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(0, count, (ROOT,), 0)]


def _concatenated(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(peer * count, count, (peer,), 0) for peer in range(n)]


def _own_share(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(0, count, tuple(range(n)), rank * count)]


def _own_share_of_root(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(0, count, (ROOT,), rank * count)]


def _transposed(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(peer * count, count, (peer,), rank * count) for peer in range(n)]


def _from_previous(rank: int, n: int, count: int) -> list[Segment]:
    return [Segment(0, count, ((rank - 1) % n,), 0)]


def _one(n: int) -> int:
    return 1


def _world(n: int) -> int:
    return n


def _none(n: int) -> int:
    return 0


def _others(n: int) -> int:
    return n - 1


def _all_but_own(n: int) -> float:
    return (n - 1) / n


def _twice_all_but_own(n: int) -> float:
    return 2 * (n - 1) / n


# fmt: off
_CATALOGUE = (  # name, reduces, in_place, shared, bus_factor, reads, writes, sends, receives, segments
    Collective("all_reduce", True, True, False, _twice_all_but_own, _world, _world, _one, _none, _everyone),
    Collective("reduce", True, True, False, _one, _world, _one, _one, _none, _on_root(_everyone)),
    Collective("broadcast", False, True, False, _one, _one, _others, _one, _none, _from_root),
    Collective("all_gather", False, False, True, _all_but_own, _one, _world, _one, _world, _concatenated),
    Collective("reduce_scatter", True, False, True, _all_but_own, _world, _one, _world, _one, _own_share),
    Collective("all_to_all", False, False, True, _all_but_own, _world, _world, _world, _world, _transposed),
    Collective("gather", False, False, True, _all_but_own, _one, _one, _one, _world, _on_root(_concatenated)),
    Collective("scatter", False, False, True, _all_but_own, _one, _one, _world, _one, _own_share_of_root),
    Collective("sendrecv", False, False, False, _one, _world, _world, _one, _one, _from_previous),
)
# fmt: on
COLLECTIVES = {row.name: row for row in _CATALOGUE}
