"""Timing on GPUs: contenders take turns on the same memory, checked before and after; the slowest counts.

Calls in a row are enqueued one after the other, with a synchronisation behind them: a sample is their time by
the host's clock, and by the GPU's between the first and the last of them. What one call takes alone, from its
start to the end of the synchronisation, is measured in rounds of its own.

A contender whose call does not end, or ends in an error, is given up: all seats hear of it, open anew what
makes ringtree's calls, and begin the case again without it.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ringtree import _core
from ringtree.communicator.communicator import in_short
from ringtree.errors import InvalidArgument, RingtreeError

from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, count_wrong
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals.protocol import Prepared, Rival
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.rounds import Budget, GaveUpError, Measurement, Rounds, Samples, Timing
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
        self._given_up: dict[tuple[str, str], str] = {}  # by collective and name of the contender

    def measure(self, case: Case, contenders: Sequence[Contender], budget: Budget) -> Measurement[GpuTiming]:
        """Check, time and check again; a collective. Who is given up is out for later cases, too."""
        while True:
            keys = [(case.collective.name, each.name) for each in contenders]
            left = [index for index, key in enumerate(keys) if key not in self._given_up]
            try:
                found = self._measure(case, [contenders[index] for index in left], budget)
            except GaveUpError as error:
                self._given_up[keys[left[error.which]]] = str(error)
                self._seat.renew()
                continue
            words = {index: self._given_up[key] for index, key in enumerate(keys) if key in self._given_up}
            return Measurement(_placed(left, found.timings), _placed(left, found.refused), words)

    def _measure(self, case: Case, contenders: Sequence[Contender], budget: Budget) -> Measurement[GpuTiming]:
        self._memory.fill(case, self._fresh_inputs(case))
        calls, refused = self._prepared(contenders, lambda each: self._first_call(case, each))
        if not calls:
            return Measurement({}, refused)
        before = self._checked(case, calls)
        self._memory.fill(case, self._fresh_inputs(case))
        batch, rounds = self._plan(
            case, budget, _MOST_ROUNDS, lambda *numbers: self._rounds(case, calls, *numbers)[:, :, 0]
        )
        in_a_row = self._rounds(case, calls, batch, rounds)
        alone = in_a_row if batch == 1 else self._rounds(case, calls, 1, rounds, by_gpu=False)
        after = self._checked(case, calls)
        timings = {}
        for column, index in enumerate(calls):
            wrong = before[index] + after[index]
            host, gpu = (tuple(map(float, in_a_row[:, column, clock])) for clock in range(2))
            timings[index] = GpuTiming(host, batch, wrong, gpu, tuple(map(float, alone[:, column, 0])))
        return Measurement(timings, refused)

    def _first_call(self, case: Case, contender: Contender) -> Prepared:
        try:
            prepared = contender.rival.prepare(case, self._memory, contender.algorithm)
            prepared.load()
            prepared.call()
            _core.gpu_synchronize(prepared.stream)
            self._seat.check()
        except InvalidArgument:
            raise
        except RingtreeError as error:
            raise GaveUpError(in_short(error)) from error
        return prepared

    def _tried(self, run: Callable[[], object]) -> str:
        """Run what a contender does, to its end: what has gone wrong on this seat, if anything."""
        try:
            run()
            self._seat.check()
        except RingtreeError as error:
            return in_short(error)
        return ""

    def _checked(self, case: Case, calls: dict[int, Prepared]) -> dict[int, int]:
        """One call of each contender on fresh inputs: wrong elements over all ranks."""
        inputs = self._fresh_inputs(case)
        wrong = {}
        for index, prepared in calls.items():
            self._memory.fill(case, inputs)
            prepared.load()
            self._world.align()
            failure = self._tried(partial(_call_once, prepared))
            found = self._world.gather((0 if failure else self._count_wrong(case, inputs), failure))
            self._agree_to_go_on(index, (words for _, words in found))
            wrong[index] = sum(number for number, _ in found)
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
        indices, contenders = list(calls), list(calls.values())
        own = np.zeros((rounds, len(contenders), 2))
        last, failure = 0, ""
        for turn, which in self._turns(rounds, len(contenders)):
            prepared = contenders[which]
            if not failure:
                self._memory.restore(case)
                prepared.load()
                _core.gpu_synchronize(prepared.stream)
            if not self._world.align(not failure):
                break
            last = which

            def sample(prepared: Prepared = prepared, place: tuple[int, int] = (turn, which)) -> None:
                own[place] = self._seconds_of(prepared, batch, by_gpu)

            failure = self._tried(sample)
        found = self._world.gather((own, failure))
        self._agree_to_go_on(indices[last], (words for _, words in found))
        slowest: Samples = np.max([samples for samples, _ in found], axis=0)
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


def _call_once(prepared: Prepared) -> None:
    """One call, with its result where the suite looks for it."""
    prepared.call()
    _core.gpu_synchronize(prepared.stream)
    prepared.store()
    _core.gpu_synchronize(prepared.stream)


def _placed(indices: Sequence[int], found: dict[int, Any]) -> dict[int, Any]:
    """What was found of some contenders, by their places among all."""
    return {indices[place]: each for place, each in found.items()}
