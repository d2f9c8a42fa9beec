"""What this machine's memory allows, measured in the same run, and the ideal time that follows from it.

A collective on one host can be no faster than the bytes that its ranks must at least read and write. A
`memcpy` of S bytes reads S and writes S, and so does a pass over S bytes in place, which has half the memory
to touch and is quicker. A collective whose result replaces its input is held against the pass in place, any
other against the copy: an all-reduce of S over n ranks reads and writes n S, as n ranks passing over S do.

Copies and passes run in the ranks themselves, where the launcher has put them, at the sizes of the table:
small arrays live in a cache, which is faster than memory.
"""

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ringtree_bench.cases import Case
from ringtree_bench.machine import usable_cores
from ringtree_bench.sizes import format_size
from ringtree_bench.worker import pages
from ringtree_bench.world import World

_SMALLEST_BYTES = 256 << 10  # below, calling from Python costs as much as the copy
_LARGEST_BYTES = 256 << 20  # far beyond every cache: larger copies are no slower a byte
_SAMPLE_BYTES = 4 << 20  # small copies are repeated up to this many bytes
_REPEATS = 7

Rates = dict[int, dict[int, float]]  # [ranks at once][bytes a rank]: bytes per second of all these ranks


@dataclass(frozen=True)
class Limits:
    """Bytes copied, or passed over in place, per second."""

    memcpy: Rates
    in_place: Rates

    def ideal_seconds(self, case: Case) -> float:
        """Least time of `case`, at the rate which all ranks together reach at its size."""
        rates = self.in_place if case.collective.in_place else self.memcpy
        together = rates[max(rates)]
        nearest = min(together, key=lambda size: abs(np.log(size / case.size_bytes)))
        return case.least_traffic_bytes / 2 / together[nearest]

    def lines(self) -> list[str]:
        """The lines above the table: the smallest and the largest size, one, two and all ranks at once."""
        sizes = self.memcpy[1]
        return [
            f"memory, {format_size(size)} a rank: memcpy {_described(self.memcpy, size)}; "
            f"in place {_described(self.in_place, size)}"
            for size in sorted({min(sizes), max(sizes)})
        ]


def _described(rates: Rates, size: int) -> str:
    return ", ".join(
        f"{ranks} rank{'s' if ranks > 1 else ''} {rates[ranks][size] / 1e9:.1f} GB/s" for ranks in rates
    )


def measure_limits(world: World, cases: Iterable[Case]) -> Limits:
    """Copy and pass over each rank's memory at the sizes of `cases`; a collective."""
    sizes = sorted({min(max(_SMALLEST_BYTES, case.size_bytes), _LARGEST_BYTES) for case in cases})
    source, target = pages(sizes[-1]), pages(sizes[-1])
    groups = sorted({1, min(2, world.size), min(world.agree(usable_cores()), world.size)})
    limits = Limits({ranks: {} for ranks in groups}, {ranks: {} for ranks in groups})
    for size in sizes:
        numbers = target[: size - size % 4].view(np.float32)
        for rates, once in (
            (limits.memcpy, lambda size=size: ctypes.memmove(target.ctypes.data, source.ctypes.data, size)),
            (limits.in_place, lambda numbers=numbers: np.negative(numbers, out=numbers)),
        ):
            for ranks in groups:
                rates[ranks][size] = _rate(world, once, size, ranks)
    return limits


def _rate(world: World, once: Callable[[], object], size: int, ranks: int) -> float:
    """Bytes per second of the first `ranks` ranks, which start together; the slowest of them counts."""
    turns = max(1, _SAMPLE_BYTES // size)
    times = []
    for _ in range(_REPEATS):
        world.align()
        start = time.perf_counter()
        for _ in range(turns if world.rank < ranks else 0):
            once()
        times.append(time.perf_counter() - start)
    slowest = np.max(world.gather(times), axis=0)
    return ranks * turns * size / float(np.median(slowest))
