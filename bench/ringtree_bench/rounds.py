"""Contenders take turns, on the host or on a GPU: who can take part, in which order, how often.

A *sample* is one or more calls in a row by one contender, divided by their number. A *round* is one sample of
every contender, in an order drawn anew, so that none always follows the same other one. So what disturbs the
machine hits all alike, and the median over the rounds is free of it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, most_calls_in_a_row
from ringtree_bench.rivals.protocol import UnsupportedError
from ringtree_bench.world import World

_SAMPLE_SECONDS = 1e-3  # short calls are repeated until a sample of the quickest contender takes this long
_MOST_CALLS_PER_SAMPLE = 100
_FEWEST_ROUNDS = 5
_PROBES = 3

Samples = NDArray[np.float64]


class Named(Protocol):
    """What any rival has, whatever it is called with."""

    name: str
    version: str

    def refusals(self) -> tuple[type[Exception], ...]:
        """What it raises, on all ranks alike, for a call which it does not support."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


@dataclass(frozen=True)
class Contender:
    """A rival with the algorithm that it is told to use."""

    rival: Named
    algorithm: str = "auto"

    @property
    def name(self) -> str:
        """`gloo`, `ringtree`, `ringtree ring`."""
        return self.rival.name + ("" if self.algorithm == "auto" else f" {self.algorithm}")


@dataclass(frozen=True)
class Budget:
    """How long one case may be measured: a time, or a number of rounds."""

    seconds: float = 2.0
    rounds: int | None = None


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender: seconds per call, the slowest rank's, one a round."""

    samples: tuple[float, ...]
    calls_per_sample: int
    wrong: int  # elements, over all ranks, in the checked calls before and after

    def quantile(self, share: float) -> float:
        """Seconds below which this share of the samples lies."""
        return float(np.quantile(self.samples, share))

    @property
    def median(self) -> float:
        """Seconds per call."""
        return self.quantile(0.5)

    @property
    def spread(self) -> float:
        """Distance from the 10th to the 90th percentile, as a share of the median."""
        return (self.quantile(0.9) - self.quantile(0.1)) / self.median


AnyTiming = TypeVar("AnyTiming", bound=Timing)
AnyContender = TypeVar("AnyContender", bound=Contender)
AnyCall = TypeVar("AnyCall")


@dataclass(frozen=True)
class Measurement(Generic[AnyTiming]):
    """The timings of those contenders that support a case, and what there is to say of the others."""

    timings: dict[int, AnyTiming] = field(default_factory=dict)  # by index of the contender
    refused: dict[int, str] = field(default_factory=dict)  # likewise: why it does not do this
    given_up: dict[int, str] = field(default_factory=dict)  # likewise: what happened to it


class GaveUpError(Exception):
    """A contender's calls do not end, or end in an error; the text says how. Of one rank, then of all."""

    def __init__(self, words: str, which: int = -1) -> None:
        """`which`: the contender's index, where all ranks know of it."""
        super().__init__(words)
        self.which = which


class Rounds:
    """What a stage does alike for all memories. Every method is a collective."""

    def __init__(self, world: World, seed: int) -> None:
        """`seed` must be the same on all ranks."""
        self._world, self._seed = world, seed
        self._draws = 0

    def _prepared(
        self, contenders: Sequence[AnyContender], first_call: Callable[[AnyContender], AnyCall]
    ) -> tuple[dict[int, AnyCall], dict[int, str]]:
        """What each contender runs, and what those say who cannot; a first call finds out, and warms up."""
        calls: dict[int, AnyCall] = {}
        refused: dict[int, str] = {}
        for index, contender in enumerate(contenders):
            problem, failure = "", ""
            refusals: tuple[type[Exception], ...] = (UnsupportedError, *contender.rival.refusals())
            try:
                calls[index] = first_call(contender)
            except refusals as error:
                problem = str(error).strip() or type(error).__name__
            except GaveUpError as error:
                failure = str(error)
            said = self._world.gather((problem, failure))
            self._agree_to_go_on(index, (text for _, text in said))
            problems = [text for text, _ in said if text]
            if problems:
                calls.pop(index, None)
                refused[index] = problems[0].splitlines()[0]
        return calls, refused

    def _agree_to_go_on(self, which: int, failures: Iterable[str]) -> None:
        """Raise on all ranks, given the same words, if some of them say how this contender failed."""
        words = next(filter(None, failures), "")
        if words:
            raise GaveUpError(words, which)

    def _plan(
        self, case: Case, budget: Budget, most_rounds: int, times: Callable[[int, int], Samples]
    ) -> tuple[int, int]:
        """Calls in a sample, the same for all contenders, and the number of rounds that the budget allows.

        Probes find out, with ever more calls in a sample: a first call is cold, the hundredth is not. Their
        `times`, given both numbers, are the same on all ranks; how long it took to measure them is not, so
        the first rank decides.
        """
        most = int(min(_MOST_CALLS_PER_SAMPLE, most_calls_in_a_row(case.op, case.dtype, case.world)))
        batch = 1
        while True:
            start = time.perf_counter()
            quickest = np.median(times(batch, _PROBES), axis=0).min()
            round_seconds = (time.perf_counter() - start) / _PROBES
            wanted = min(most, math.ceil(_SAMPLE_SECONDS / quickest))
            if wanted <= 2 * batch:
                break
            batch = wanted
        affordable = min(max(round(budget.seconds / round_seconds), _FEWEST_ROUNDS), most_rounds)
        return batch, budget.rounds or self._world.agree(affordable)

    def _turns(self, rounds: int, contenders: int) -> Iterator[tuple[int, int]]:
        """The round and the contender of each sample; the same order on all ranks."""
        order = np.random.default_rng([self._seed, self._draws])
        for number in range(rounds):
            for which in order.permutation(contenders):
                yield number, which

    def _fresh_inputs(self, case: Case) -> Inputs:
        self._draws += 1
        return Inputs(case, [self._seed, self._draws])
