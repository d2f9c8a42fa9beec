"""Timing on the host: all work on the same buffers, checked before and after; the slowest rank counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case
from ringtree_bench.check import Inputs, count_wrong, spoil
from ringtree_bench.rivals.group import Group, GroupCall
from ringtree_bench.rivals.protocol import Rival, Task
from ringtree_bench.rounds import Budget, Measurement, Rounds, Samples, Timing
from ringtree_bench.rounds import Contender as AnyContender
from ringtree_bench.worker import in_order, seconds_of
from ringtree_bench.world import World

_MOST_ROUNDS = 400
_CACHED_BYTES = 64 << 20  # larger buffers are in no cache when a contender's turn comes

Call = Callable[[], object] | GroupCall


@dataclass(frozen=True)
class Contender(AnyContender):
    """A rival of the host."""

    rival: Rival | Group


class Stage(Rounds):
    """Where contenders are measured: the world, its buffers and the seed of this run."""

    def __init__(self, world: World, buffers: Buffers, seed: int) -> None:
        """Use `buffers` for every case; `seed` must be the same on all ranks."""
        super().__init__(world, seed)
        self._buffers = buffers

    def measure(self, case: Case, contenders: Sequence[Contender], budget: Budget) -> Measurement[Timing]:
        """Check, time and check again; a collective."""
        first = self._fresh_inputs(case)
        calls, refused = self._prepared(contenders, lambda each: self._first_call(case, each, first))
        if not calls:
            return Measurement({}, refused)
        wrong_before = self._checked(case, calls)
        inputs = self._fresh_inputs(case)

        def times(batch: int, rounds: int) -> Samples:
            return self._rounds(case, calls, inputs, batch, rounds)

        batch, rounds = self._plan(case, budget, _MOST_ROUNDS, times)
        samples = times(batch, rounds)
        wrong_after = self._checked(case, calls)
        refused |= self._given_up(calls, contenders)
        timings = {
            index: Timing(tuple(map(float, column)), batch, wrong_before[index] + wrong_after[index])
            for index, column in zip(calls, samples.T, strict=True)
            if index not in refused
        }
        return Measurement(timings, refused)

    def _given_up(self, calls: dict[int, Call], contenders: Sequence[Contender]) -> dict[int, str]:
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

    def _first_call(self, case: Case, contender: Contender, inputs: Inputs) -> Call:
        inputs.fill(self._buffers.of(case)[0], self._world.rank)
        call = self._call(case, contender)
        call()
        return call

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
        for turn, which in self._turns(rounds, len(contenders)):
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
