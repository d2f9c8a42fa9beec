"""Two communicators of the same ranks, with a stream each: calls of both are under way at the same time.

Where ranks share a GPU a call takes half of its multiprocessors at most, so that two have room at once; a third
one would have none. And nobody allocates while kernels run that may wait for that rank: CUDA may wait for the
device then (docs/gpu.md, "Threads on one GPU").
"""

import random
from collections.abc import Callable

import numpy as np
import pytest
import ringtree as rt
from contract.cases import Case, Result
from contract.reference import Array
from gpu import memory
from gpu.attempts import warm
from gpu.graphs import Program, check_turns, over, recorded
from gpu.memory import View, empty
from gpu.test_collectives import ENTRIES, cases
from gpu.worlds import few, in_threads_and_processes, run_everywhere
from hypothesis import given
from hypothesis import strategies as st
from ringtree import _core

TURNS = 8


class Circle:
    """A message to the next rank, and from the one before."""

    def __init__(self, comm: rt.Communicator, stream: int) -> None:
        self._comm = comm
        self._mine, self._theirs = (View(empty(5001, "uint8").whole, 0, 5001, stream) for _ in range(2))

    def call(self) -> None:
        rank, world = self._comm.rank, self._comm.world_size
        self._comm.sendrecv(self._mine, self._theirs, to=(rank + 1) % world, source=(rank - 1) % world)

    def fill(self, turn: int) -> None:
        memory.poison(self._theirs)
        self._mine[:] = self._message(self._comm.rank, turn)
        self._expected = self._message((self._comm.rank - 1) % self._comm.world_size, turn)

    def look(self) -> None:
        assert (np.asarray(self._theirs) == self._expected).all()

    @staticmethod
    def _message(sender: int, turn: int) -> Array:
        return np.random.default_rng([sender, turn]).integers(0, 256, 5001, np.uint8)


class Line:
    """What one communicator does, on a stream of its own."""

    def __init__(self, comm: rt.Communicator, sequence: list[Case], as_graph: bool) -> None:
        self._stream = _core.GpuStream()
        self.stream = self._stream.handle
        self._program, self._circle = Program(comm, sequence, self.stream), Circle(comm, self.stream)
        self.results: list[list[Result]] = []
        warm(comm)
        self.steps: list[Callable[[], object]] = [*self._program.calls, self._circle.call]
        if as_graph:
            graph = recorded(comm, self.steps, self.stream)
            self.steps = [lambda: graph.replay(self.stream)]

    def fill(self, turn: int) -> None:
        self._program.fill(turn)
        self._circle.fill(turn)

    def look(self) -> None:
        self.results.append(self._program.look())
        self._circle.look()


def work_on_both(
    comm: rt.Communicator, sequences: tuple[list[Case], list[Case]], as_graphs: bool
) -> list[list[list[Result]]]:
    """By communicator, turn and case, what this rank has got. Which one goes on each rank decides by chance."""
    other = comm.split(0, -comm.rank)  # the last rank comes first there
    assert other is not None
    lines = [Line(each, sequence, as_graphs) for each, sequence in zip((comm, other), sequences, strict=True)]
    chance = random.Random()
    for turn in range(TURNS):
        for line in lines:
            line.fill(turn)
        comm.barrier()  # all have what they need
        left = [iter(line.steps) for line in lines]
        order = [number for number, line in enumerate(lines) for _ in line.steps]
        chance.shuffle(order)
        for number in order:
            next(left[number])()
        for line in chance.sample(lines, 2):
            line.look()
    for each in (comm, other):
        over(each, *(line.stream for line in lines))
    return [line.results for line in lines]


@st.composite
def any_cases(draw: st.DrawFn, world: int) -> list[Case]:
    entries = draw(st.lists(st.sampled_from(ENTRIES), min_size=3, max_size=6))
    return [draw(cases(collective, algorithm, world)) for collective, algorithm in entries]


@in_threads_and_processes
@pytest.mark.parametrize("as_graphs", [False, True], ids=["calls", "graphs"])
@few
@given(data=st.data(), world=st.integers(2, 4))
def test_calls_of_two_communicators_are_under_way_at_once(
    where: str, as_graphs: bool, data: st.DataObject, world: int
) -> None:
    sequences = data.draw(any_cases(world)), data.draw(any_cases(world))
    by_rank = run_everywhere(where, world, work_on_both, sequences, as_graphs)
    first, second = zip(*by_rank, strict=True)
    check_turns(sequences[0], first)
    check_turns(sequences[1], second[::-1])
