"""Timing on GPUs: contenders take turns on the same memory, checked before and after; the slowest counts.

A *sample* is some calls in a row, enqueued one after the other, and a synchronisation: its time by the host's
clock, and the GPU's own between the first and the last of them, both divided by the number of calls. A
*round* is a sample of every contender, in an order drawn anew. What one call takes alone, from its start to
the end of the synchronisation, is measured in rounds of its own.
"""

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from ringtree import _core

from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, count_wrong, most_calls_in_a_row
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals.protocol import Prepared, Rival
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.measure import Budget, Samples, Timing
from ringtree_bench.rivals.protocol import UnsupportedError

_SAMPLE_SECONDS = 1e-3
_MOST_CALLS_PER_SAMPLE = 100
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 200
_PROBES = 3


@dataclass(frozen=True)
class Contender:
    """A rival with the algorithm that it is told to use."""

    rival: Rival
    algorithm: str = "auto"

    @property
    def name(self) -> str:
        """`nccl`, `ringtree`, `ringtree ring`."""
        return self.rival.name + ("" if self.algorithm == "auto" else f" {self.algorithm}")


@dataclass(frozen=True)
class GpuTiming(Timing):
    """Beside the host's time of calls in a row: the GPU's time of them, and that of a call alone."""

    on_gpu: tuple[float, ...] = ()  # seconds per call, one a round
    alone: tuple[float, ...] = ()  # seconds from a call's start to the end of its synchronisation

    @property
    def gpu_median(self) -> float:
        """Seconds per call, by the GPU's clock."""
        return float(np.median(self.on_gpu))

    @property
    def alone_median(self) -> float:
        """Seconds of one call, with nothing before and nothing behind it."""
        return float(np.median(self.alone))


@dataclass(frozen=True)
class Measurement:
    """One case, with the timings of those contenders that support it and the reasons of the others."""

    timings: dict[int, GpuTiming] = field(default_factory=dict)  # by index of the contender
    refused: dict[int, str] = field(default_factory=dict)  # likewise


class Stage:
    """Where contenders are measured: a seat, its memory and the seed of this run."""

    def __init__(self, seat: Seat, memory: Memory, seed: int) -> None:
        """Use `memory` for every case; `seed` must be the same at all seats."""
        self._seat, self._memory, self._seed = seat, memory, seed
        self._world = seat.world
        self._timer = _core.GpuTimer()
        self._draws = 0

    def measure(self, case: Case, contenders: list[Contender], budget: Budget) -> Measurement:
        """Check, time and check again; a collective."""
        calls, refused = self._prepare(case, contenders)
        if not calls:
            return Measurement({}, refused)
        self._seat.check()
        before = self._checked(case, calls)
        self._memory.fill(case, self._fresh_inputs(case))
        batch, rounds = self._plan(case, calls, budget)
        in_a_row = self._rounds(case, calls, batch, rounds)
        alone = in_a_row if batch == 1 else self._rounds(case, calls, 1, rounds)
        after = self._checked(case, calls)
        self._seat.check()
        timings = {}
        for column, index in enumerate(calls):
            wrong = before[index] + after[index]
            host, gpu = (tuple(map(float, in_a_row[:, column, clock])) for clock in range(2))
            timings[index] = GpuTiming(host, batch, wrong, gpu, tuple(map(float, alone[:, column, 0])))
        return Measurement(timings, refused)

    def _prepare(self, case: Case, contenders: list[Contender]) -> tuple[dict[int, Prepared], dict[int, str]]:
        """What each contender runs, and what those say who cannot; a first call finds out, and warms up."""
        calls: dict[int, Prepared] = {}
        refused: dict[int, str] = {}
        self._memory.fill(case, self._fresh_inputs(case))
        for index, contender in enumerate(contenders):
            refusals: tuple[type[Exception], ...] = (UnsupportedError, *contender.rival.refusals())
            problem = ""
            try:
                prepared = contender.rival.prepare(case, self._memory, contender.algorithm)
                prepared.load()
                prepared.call()
                _core.gpu_synchronize(prepared.stream)
                calls[index] = prepared
            except refusals as error:
                problem = str(error).strip() or type(error).__name__
            problems = [text for text in self._world.gather(problem) if text]
            if problems:
                calls.pop(index, None)
                refused[index] = problems[0].splitlines()[0]
        return calls, refused

    def _checked(self, case: Case, calls: dict[int, Prepared]) -> dict[int, int]:
        """One call of each contender on fresh inputs: wrong elements over all ranks."""
        inputs = self._fresh_inputs(case)
        wrong = {}
        for index, prepared in calls.items():
            self._memory.fill(case, inputs)
            prepared.load()
            self._world.align()
            prepared.call()
            _core.gpu_synchronize(prepared.stream)
            prepared.store()
            _core.gpu_synchronize(prepared.stream)
            wrong[index] = sum(self._world.gather(self._count_wrong(case, inputs)))
        return wrong

    def _count_wrong(self, case: Case, inputs: Inputs) -> int:
        """Of all ranks of this seat; each is checked by a thread, whose time is NumPy's."""

        def count(local: int) -> int:
            return count_wrong(self._memory.result(case, local), case, self._seat.ranks[local], inputs)

        places = range(len(self._seat.ranks))
        with ThreadPoolExecutor(min(len(places), os.cpu_count() or 1)) as threads:
            return sum(threads.map(count, places))

    def _plan(self, case: Case, calls: dict[int, Prepared], budget: Budget) -> tuple[int, int]:
        """Calls in a sample, the same for all contenders, and the number of rounds that the budget allows."""
        most = int(min(_MOST_CALLS_PER_SAMPLE, most_calls_in_a_row(case.op, case.dtype, case.world)))
        batch = 1
        while True:
            start = time.perf_counter()
            quickest = np.median(self._rounds(case, calls, batch, _PROBES)[:, :, 0], axis=0).min()
            round_seconds = (time.perf_counter() - start) / _PROBES
            wanted = min(most, math.ceil(_SAMPLE_SECONDS / quickest))
            if wanted <= 2 * batch:
                break
            batch = wanted
        affordable = min(max(round(budget.seconds / round_seconds), _FEWEST_ROUNDS), _MOST_ROUNDS)
        return batch, budget.rounds or self._world.agree(affordable)

    def _rounds(self, case: Case, calls: dict[int, Prepared], batch: int, rounds: int) -> Samples:
        """Seconds per call, the slowest seat's: [round, contender, 0: the host's clock, 1: the GPU's]."""
        contenders = list(calls.values())
        own = np.zeros((rounds, len(contenders), 2))
        order = np.random.default_rng([self._seed, self._draws])  # the same at all seats
        for turn in range(rounds):
            for which in order.permutation(len(contenders)):
                self._memory.restore(case)
                contenders[which].load()
                _core.gpu_synchronize(contenders[which].stream)
                self._world.align()
                own[turn, which] = self._seconds_of(contenders[which], batch)
        slowest: Samples = np.max(self._world.gather(own), axis=0)
        return slowest / batch

    def _seconds_of(self, prepared: Prepared, batch: int) -> tuple[float, float]:
        """Seconds of some calls in a row, by both clocks."""
        stream, call, timer = prepared.stream, prepared.call, self._timer
        turns = range(batch)
        start = time.perf_counter()
        timer.start(stream)
        for _ in turns:
            call()
        timer.stop(stream)
        _core.gpu_synchronize(stream)
        return time.perf_counter() - start, timer.seconds

    def _fresh_inputs(self, case: Case) -> Inputs:
        self._draws += 1
        return Inputs(case, [self._seed, self._draws])
