"""Calls that are made again and again, on fresh inputs each time, and graphs of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import ringtree as rt
from contract.cases import Case, Result, check, input_of, place
from gpu import memory
from gpu.attempts import warm
from gpu.memory import View
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD


class Program:
    """Calls of a rank, one behind the other on a stream, and their arrays."""

    def __init__(self, comm: rt.Communicator, sequence: list[Case], stream: int = STREAM_OF_THREAD) -> None:
        self._comm, self._sequence, self._stream = comm, sequence, stream
        self._placed = [
            place(comm, case, input_of(case, comm.rank, comm.world_size).size, self._allocate)
            for case in sequence
        ]
        self.calls = [each.call for each in self._placed]

    def _allocate(self, comm: rt.Communicator, case: Case, count: int) -> View:
        array = memory.for_case(comm, case, count)
        return View(array.whole, array.begin, count, self._stream)

    def fill(self, turn: int) -> None:
        """The inputs of this turn, and poison where the results will be."""
        self._inputs = [
            input_of(in_turn(case, turn), self._comm.rank, self._comm.world_size) for case in self._sequence
        ]
        for each, x in zip(self._placed, self._inputs, strict=True):
            memory.poison(each.out)
            each.given[:] = x

    def look(self) -> list[Result]:
        """What this rank has got from each call, once they are over."""
        return [each.look(x) for each, x in zip(self._placed, self._inputs, strict=True)]


def in_turn(case: Case, turn: int) -> Case:
    """The same call on other inputs."""
    return replace(case, seed=case.seed + turn)


def check_turns(sequence: list[Case], by_rank: Sequence[list[list[Result]]]) -> None:
    """Holds what each rank has got, by turn and case, against the reference."""
    for turn, of_turn in enumerate(zip(*by_rank, strict=True)):
        for case, *results in zip(sequence, *of_turn, strict=True):
            check(in_turn(case, turn), results)


def recorded(
    comm: rt.Communicator, calls: Sequence[Callable[[], object]], stream: int = STREAM_OF_THREAD
) -> _core.GpuGraph:
    """The calls, whose arrays are on `stream`, as a graph. All ranks make theirs at once.

    While one is made, and when it ends, CUDA may wait for the device. So no rank's kernel may be waiting there
    for another rank: see `over`.
    """
    warm(comm)
    _core.gpu_begin_recording(stream)
    try:
        for call in calls:
            call()
    finally:
        graph = _core.gpu_end_recording(stream)
    over(comm, stream)
    return graph


def over(comm: rt.Communicator, *streams: int) -> None:
    """Returns when what all ranks have on these streams is over.

    comm.synchronize() alone does not see a replay that has not begun.
    """
    for stream in streams:
        _core.gpu_synchronize(stream)
    comm.synchronize()
    comm.barrier()
