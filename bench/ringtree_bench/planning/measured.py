"""Measured times, the constants that half of them give, and how well those predict the other half."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import ringtree as rt

from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import cases_of_sizes
from ringtree_bench.measure import Contender, Stage
from ringtree_bench.planning.constants import Constants
from ringtree_bench.planning.fit import Sample, fit
from ringtree_bench.planning.model import Job, declared
from ringtree_bench.rivals import Ringtree
from ringtree_bench.rounds import Budget
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size
from ringtree_bench.world import World

_PASSES = 3  # over all sizes, so that a minute in which the machine is slower is not the end of one size

Times = dict[int, dict[str, float]]  # [size][algorithm]: seconds


@dataclass(frozen=True)
class Check:
    """One point: what was predicted and what was measured, in seconds."""

    size: int
    algorithm: str
    predicted: float
    measured: float
    fitted: bool  # the constants come from this point and others, so it proves nothing

    @property
    def error(self) -> float:
        """0.1 where the prediction is a tenth too long, -0.1 where it is a tenth too short."""
        return self.predicted / self.measured - 1


def measure_times(
    world: World, collective: str, sizes: tuple[int, ...], seconds: float, screen: Screen
) -> Times:
    """Medians of every algorithm of `collective`; the same numbers on every rank. A collective.

    Raises:
        RingtreeError: a result is wrong.
    """
    names = rt.algorithms(collective)
    cases = cases_of_sizes(collective, sizes, "float32", "sum", world.size)
    stage = Stage(world, Buffers(cases), world.agree(secrets.randbits(48)))
    contenders = [Contender(Ringtree(world.comm), name) for name in names]
    samples: dict[int, dict[str, list[float]]] = {case.size_bytes: {} for case in cases}
    with screen.progress(_PASSES * len(cases)):
        for _ in range(_PASSES):
            for case in cases:
                screen.begin(f"{collective} {format_size(case.size_bytes)}")
                measured = stage.measure(case, contenders, Budget(seconds / _PASSES))
                for index, timing in measured.timings.items():
                    if timing.wrong:
                        raise rt.RingtreeError(f"{case.kind} by {names[index]} gives wrong results")
                    samples[case.size_bytes].setdefault(names[index], []).extend(timing.samples)
                screen.done()
    return {
        size: {name: float(np.median(found)) for name, found in by_name.items()}
        for size, by_name in samples.items()
    }


def split(sizes: list[int]) -> tuple[list[int], list[int]]:
    """The sizes that constants are fitted to, and those that they are checked with: every other one.

    The last is fitted, so that no prediction reaches beyond what was measured.
    """
    fitted = sizes[::-1][::2][::-1]
    return fitted, [size for size in sizes if size not in fitted]


def constants_from(
    times: Mapping[int, Mapping[str, float]], collective: str, world: int, source: str
) -> Constants:
    """The constants that fit the times of the sizes which `split` sets aside for that."""
    fitted, _ = split(sorted(times))
    samples = [
        Sample(name, size, declared(collective, name, world, size), seconds)
        for size in fitted
        for name, seconds in times[size].items()
    ]
    return fit(samples, source)


def checks(
    times: Mapping[int, Mapping[str, float]], job: Job, collective: str, fitted: list[int]
) -> Iterator[Check]:
    """Prediction beside measurement, point by point."""
    for size, measured in sorted(times.items()):
        for name, seconds in measured.items():
            yield Check(size, name, job.seconds(collective, name, size), seconds, size in fitted)
