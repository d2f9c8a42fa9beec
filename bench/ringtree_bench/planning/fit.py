"""The constants of this machine, from measured times: least squares of the logarithms.

A prediction that is 20 % off is as wrong at 2 us as at 50 ms, so the difference of the logarithms is what is
made small: by Levenberg and Marquardt's method, over the logarithms of all constants, which keeps each above
zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ringtree import _core

from ringtree_bench.planning.constants import Constants

_SMALLEST_KNOT = 4096  # bytes: of smaller arrays the calls and hand-overs say everything
_EVENNESS = 0.1  # how firmly neighbouring bandwidths, and
_MODESTY = 0.1  # how firmly factors, are held near each other where the times do not tell them apart
_ITERATIONS = 200
_NUDGE = 1e-5

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A measured time, and what the algorithm declares about the call."""

    algorithm: str
    size: int
    cost: _core.Cost
    seconds: float


class _Unknowns:
    """Which place in the vector of logarithms holds which constant."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        sizes = sorted({sample.size for sample in samples})
        self._knots = [size for size in sizes if size >= _SMALLEST_KNOT] or sizes[-1:]
        self._names = sorted({sample.algorithm for sample in samples})
        self._rates = slice(2, 2 + len(self._knots))
        self._factors = slice(self._rates.stop, self._rates.stop + len(self._names))
        self._where = np.log([max(sample.size, self._knots[0]) for sample in samples])
        self._which = [self._names.index(sample.algorithm) for sample in samples]
        self._steps = np.array([sample.cost.steps for sample in samples])
        self._moved = np.array([sample.cost.moved_bytes for sample in samples])
        self._seconds = np.array([sample.seconds for sample in samples])

    def start(self) -> Vector:
        """The quickest call is half call, half step; the slowest does nothing but move bytes."""
        slowest = int(np.argmax(self._seconds))
        start = np.zeros(self._factors.stop)
        start[:2] = np.log(self._seconds.min() / 2)
        start[self._rates] = np.log(self._moved[slowest] / self._seconds[slowest])
        return start

    def distances(self, unknowns: Vector) -> Vector:
        """What is squared and added up: how far off each time is, and the two weak wishes."""
        rates, factors = unknowns[self._rates], unknowns[self._factors]
        bandwidth = np.exp(np.interp(self._where, np.log(self._knots), rates))
        moving = np.exp(factors[self._which]) * self._moved / bandwidth
        predicted = np.exp(unknowns[0]) + np.exp(unknowns[1]) * self._steps + moving
        return np.concatenate(
            [np.log(predicted / self._seconds), _EVENNESS * np.diff(rates), _MODESTY * factors]
        )

    def constants(self, unknowns: Vector, source: str) -> Constants:
        call, step = (float(value) for value in np.exp(unknowns[:2]))
        rates, factors = np.exp(unknowns[self._rates]), np.exp(unknowns[self._factors])
        return Constants(
            step=step,
            bandwidth=dict(zip(self._knots, map(float, rates), strict=True)),
            call=call,
            factors=dict(zip(self._names, map(float, factors), strict=True)),
            source=source,
        )


def fit(samples: Sequence[Sample], source: str) -> Constants:
    """The constants that come nearest to `samples`; `source` says where they were measured.

    Bandwidths are told for the sizes among the samples, factors for their algorithms.
    """
    unknowns = _Unknowns(samples)
    best = unknowns.start()
    distances = unknowns.distances(best)
    damping = 1e-2
    for _ in range(_ITERATIONS):
        nudges = _NUDGE * np.eye(best.size)
        slopes = np.stack(
            [(unknowns.distances(best + nudge) - distances) / _NUDGE for nudge in nudges], axis=1
        )
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(best.size), -slopes.T @ distances)
        tried = unknowns.distances(best + step)
        if tried @ tried < distances @ distances:
            best, distances, damping = best + step, tried, damping / 3
        else:
            damping *= 4
        if np.abs(step).max() < _NUDGE:
            break
    return unknowns.constants(best, source)
