"""Timing on GPUs: contenders take turns on the same memory, checked before and after; the slowest counts.

Calls in a row are enqueued one after the other, with a synchronisation behind them: a sample is their time by
the host's clock, and by the GPU's between the first and the last of them. What one call takes alone, from its
start to the end of the synchronisation, is measured in rounds of its own.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from ringtree import _core

from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, count_wrong
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals.protocol import Prepared, Rival
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.rounds import Budget, Measurement, Rounds, Samples, Timing
from ringtree_bench.rounds import Contender as AnyContender

_MOST_ROUNDS = 200


@dataclass(frozen=True)
class Contender(AnyContender):
    """A rival on GPUs."""

    rival: Rival


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


class Stage(Rounds):
    """Where contenders are measured: a seat, its memory and the seed of this run."""

    def __init__(self, seat: Seat, memory: Memory, seed: int) -> None:
        """Use `memory` for every case; `seed` must be the same at all seats."""
        super().__init__(seat.world, seed)
        self._seat, self._memory = seat, memory
        self._timer = _core.GpuTimer()

    def measure(self, case: Case, contenders: Sequence[Contender], budget: Budget) -> Measurement[GpuTiming]:
        """Check, time and check again; a collective."""
        self._memory.fill(case, self._fresh_inputs(case))
        calls, refused = self._prepared(contenders, lambda each: self._first_call(case, each))
        if not calls:
            return Measurement({}, refused)
        self._seat.check()
        before = self._checked(case, calls)
        self._memory.fill(case, self._fresh_inputs(case))
        batch, rounds = self._plan(
            case, budget, _MOST_ROUNDS, lambda *numbers: self._rounds(case, calls, *numbers)[:, :, 0]
        )
        in_a_row = self._rounds(case, calls, batch, rounds)
        alone = in_a_row if batch == 1 else self._rounds(case, calls, 1, rounds, by_gpu=False)
        after = self._checked(case, calls)
        self._seat.check()
        timings = {}
        for column, index in enumerate(calls):
            wrong = before[index] + after[index]
            host, gpu = (tuple(map(float, in_a_row[:, column, clock])) for clock in range(2))
            timings[index] = GpuTiming(host, batch, wrong, gpu, tuple(map(float, alone[:, column, 0])))
        return Measurement(timings, refused)

    def _first_call(self, case: Case, contender: Contender) -> Prepared:
        prepared = contender.rival.prepare(case, self._memory, contender.algorithm)
        prepared.load()
        prepared.call()
        _core.gpu_synchronize(prepared.stream)
        return prepared

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

    def _rounds(
        self, case: Case, calls: dict[int, Prepared], batch: int, rounds: int, by_gpu: bool = True
    ) -> Samples:
        """Seconds per call, the slowest seat's: [round, contender, 0: the host's clock, 1: the GPU's]."""
        contenders = list(calls.values())
        own = np.zeros((rounds, len(contenders), 2))
        for turn, which in self._turns(rounds, len(contenders)):
            self._memory.restore(case)
            contenders[which].load()
            _core.gpu_synchronize(contenders[which].stream)
            self._world.align()
            own[turn, which] = self._seconds_of(contenders[which], batch, by_gpu)
        slowest: Samples = np.max(self._world.gather(own), axis=0)
        return slowest / batch

    def _seconds_of(self, prepared: Prepared, batch: int, by_gpu: bool) -> tuple[float, float]:
        """Seconds of some calls in a row, by both clocks; the GPU's takes some time itself."""
        stream, call, timer = prepared.stream, prepared.call, self._timer
        turns = range(batch)
        start = time.perf_counter()
        if by_gpu:
            timer.start(stream)
        for _ in turns:
            call()
        if by_gpu:
            timer.stop(stream)
        _core.gpu_synchronize(stream)
        return time.perf_counter() - start, timer.seconds if by_gpu else 0.0
