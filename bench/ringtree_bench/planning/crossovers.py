"""Where one algorithm overtakes another."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_CLOSE_ENOUGH = 1.001  # two sizes so near to each other count as one

Times = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True)
class Crossover:
    """From `size` bytes on `after` is quicker than `before`, which was the quickest below."""

    size: int
    before: str
    after: str


def quickest(times: Mapping[str, float]) -> str:
    """The name with the least time; of several, the first."""
    return min(times, key=lambda name: times[name])


def crossovers(times: Times, sizes: Sequence[int]) -> list[Crossover]:
    """Each change of the quickest between the first and the last of `sizes`, which ascend.

    Between two neighbours with different winners the interval is halved, on the logarithmic scale, down to a
    thousandth of the size; a winner that comes and goes between two neighbours is not seen.
    """
    found: list[Crossover] = []
    for low, high in pairwise(sizes):
        found += _between(times, (low, quickest(times(low))), (high, quickest(times(high))))
    return found


def _between(times: Times, low: tuple[int, str], high: tuple[int, str]) -> list[Crossover]:
    if low[1] == high[1]:
        return []
    middle = max(math.isqrt(low[0] * high[0]), low[0] + 1)
    if high[0] <= low[0] * _CLOSE_ENOUGH or middle >= high[0]:
        return [Crossover(high[0], low[1], high[1])]
    half = (middle, quickest(times(middle)))
    return _between(times, low, half) + _between(times, half, high)
