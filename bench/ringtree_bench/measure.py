"""Timing: contenders take turns on the same buffers, checked before and after; the slowest rank counts.

A *sample* is one or more back-to-back calls by one contender, divided by their number. A *round* is one
sample of every contender, in an order drawn anew, so that none always follows the same other one. So what
disturbs the machine hits all alike, and the median over the rounds is free of it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, count_wrong, most_calls_in_a_row, spoil
from ringtree_bench.rivals.group import Group, GroupCall
from ringtree_bench.rivals.protocol import Rival, Task, UnsupportedError
from ringtree_bench.worker import in_order, seconds_of
from ringtree_bench.world import World

_SAMPLE_SECONDS = 1e-3  # short calls are repeated until a sample of the quickest contender takes this long
_MOST_CALLS_PER_SAMPLE = 100
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 400
_PROBES = 3
_CACHED_BYTES = 64 << 20  # larger buffers are in no cache when a contender's turn comes

Call = Callable[[], object] | GroupCall
Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """A rival with the algorithm that it is told to use."""

    rival: Rival | Group
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


@dataclass(frozen=True)
class Measurement:
    """One case, with the timings of those contenders that support it and the reasons of the others."""

    case: Case
    timings: dict[int, Timing] = field(default_factory=dict)  # by index of the contender
    refused: dict[int, str] = field(default_factory=dict)  # likewise


class Stage:
    """Where contenders are measured: the world, its buffers and the seed of this run."""

    def __init__(self, world: World, buffers: Buffers, seed: int) -> None:
        """Use `buffers` for every case; `seed` must be the same on all ranks."""
        self._world, self._buffers, self._seed = world, buffers, seed
        self._draws = 0

    def measure(self, case: Case, contenders: list[Contender], budget: Budget) -> Measurement:
        """Check, time and check again; a collective."""
        calls, refused = self._prepare(case, contenders)
        if not calls:
            return Measurement(case, {}, refused)
        wrong_before = self._checked(case, calls)
        inputs = self._fresh_inputs(case)
        batch, rounds = self._plan(case, calls, inputs, budget)
        samples = self._rounds(case, calls, inputs, batch, rounds)
        wrong_after = self._checked(case, calls)
        refused |= self._given_up(calls, contenders)
        timings = {
            index: Timing(tuple(map(float, column)), batch, wrong_before[index] + wrong_after[index])
            for index, column in zip(calls, samples.T, strict=True)
            if index not in refused
        }
        return Measurement(case, timings, refused)

    def _given_up(self, calls: dict[int, Call], contenders: list[Contender]) -> dict[int, str]:
        """The groups of processes that have stopped answering on any rank, which all ranks then leave."""
        lost = {}
        for index, call in calls.items():
            group = contenders[index].rival
            if isinstance(call, GroupCall) and isinstance(group, Group):
                problems = [text for text in self._world.gather(call.problem) if text]
                if problems:
                    group.give_up(problems[0])
                    lost[index] = problems[0]
        return lost

    def _prepare(self, case: Case, contenders: list[Contender]) -> tuple[dict[int, Call], dict[int, str]]:
        """What each contender runs, and what those say who cannot; a first call finds out, and warms up."""
        calls: dict[int, Call] = {}
        refused: dict[int, str] = {}
        x, _ = self._buffers.of(case)
        inputs = self._fresh_inputs(case)
        for index, contender in enumerate(contenders):
            inputs.fill(x, self._world.rank)
            problem = ""
            refusals: tuple[type[Exception], ...] = (UnsupportedError, *contender.rival.refusals())
            try:
                call = self._call(case, contender)
                call()
                calls[index] = call
            except refusals as error:
                problem = str(error).strip() or type(error).__name__
            problems = [text for text in self._world.gather(problem) if text]
            if problems:
                calls.pop(index, None)
                refused[index] = problems[0].splitlines()[0]
        return calls, refused

    def _call(self, case: Case, contender: Contender) -> Call:
        """One measured call: a single collective, or one for each part of the case, in order."""
        x, out = self._buffers.of(case)
        if isinstance(contender.rival, Group):
            return contender.rival.prepare_case(case, x, out)
        gives, gets = case.collective.sends(case.world), case.collective.receives(case.world)
        calls, start = [], 0
        for count in case.parts:
            task = Task(
                case.collective.name,
                x[start * gives : (start + count) * gives],
                out[start * gets : (start + count) * gets],
                case.op,
                contender.algorithm,
                self._world.rank,
                self._world.size,
            )
            calls.append(contender.rival.prepare(task))
            start += count
        return in_order(calls)

    def _checked(self, case: Case, calls: dict[int, Call]) -> dict[int, int]:
        """One call of each contender on fresh inputs: wrong elements over all ranks."""
        x, out = self._buffers.of(case)
        result = x if case.collective.in_place else out
        inputs = self._fresh_inputs(case)
        wrong = {}
        for index, call in calls.items():
            inputs.fill(x, self._world.rank)
            spoil(out)
            self._world.align()
            call()
            wrong[index] = sum(self._world.gather(count_wrong(result, case, self._world.rank, inputs)))
        return wrong

    def _plan(self, case: Case, calls: dict[int, Call], inputs: Inputs, budget: Budget) -> tuple[int, int]:
        """Calls in a sample, the same for all contenders, and the number of rounds that the budget allows.

        Probes find out, with ever more calls in a sample: a first call is cold, the hundredth is not. Their
        times are the same on all ranks; how long it took to measure them is not, so the first rank decides.
        """
        most = int(min(_MOST_CALLS_PER_SAMPLE, most_calls_in_a_row(case.op, case.dtype, case.world)))
        batch = 1
        while True:
            start = time.perf_counter()
            quickest = np.median(self._rounds(case, calls, inputs, batch, _PROBES), axis=0).min()
            round_seconds = (time.perf_counter() - start) / _PROBES
            wanted = min(most, math.ceil(_SAMPLE_SECONDS / quickest))
            if wanted <= 2 * batch:
                break
            batch = wanted
        affordable = min(max(round(budget.seconds / round_seconds), _FEWEST_ROUNDS), _MOST_ROUNDS)
        return batch, budget.rounds or self._world.agree(affordable)

    def _rounds(self, case: Case, calls: dict[int, Call], inputs: Inputs, batch: int, rounds: int) -> Samples:
        """Seconds per call, the slowest rank's: a row for each round, a column for each contender."""
        x, out = self._buffers.of(case)
        grows = case.collective.in_place and case.collective.reduces
        # Workers have buffers of their own, which those of the others drive out of the caches and vice versa.
        chilled = x.nbytes + out.nbytes <= _CACHED_BYTES and any(
            isinstance(call, GroupCall) for call in calls.values()
        )
        inputs.fill(x, self._world.rank)
        contenders = list(calls.values())
        own = np.zeros((rounds, len(contenders)))
        order = np.random.default_rng([self._seed, self._draws])  # the same on all ranks
        for turn in range(rounds):
            for which in order.permutation(len(contenders)):
                call = contenders[which]
                if isinstance(call, GroupCall):
                    self._world.align()
                    own[turn, which] = call.seconds(batch, refresh=grows or chilled) / batch
                    continue
                if grows or chilled:
                    inputs.fill(x, self._world.rank)
                if chilled:
                    spoil(out)
                self._world.align()
                own[turn, which] = seconds_of(call, batch) / batch
        slowest: Samples = np.max(self._world.gather(own), axis=0)
        return slowest

    def _fresh_inputs(self, case: Case) -> Inputs:
        self._draws += 1
        return Inputs(case, [self._seed, self._draws])
