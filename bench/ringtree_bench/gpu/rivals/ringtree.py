"""ringtree itself, call by call and as a graph that is replayed."""

from dataclasses import replace
from functools import partial
from typing import Any

import ringtree as rt
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD

from ringtree_bench.cases import Case
from ringtree_bench.collectives import ROOT
from ringtree_bench.gpu.memory import Memory, View, stream_of
from ringtree_bench.gpu.rivals.protocol import Prepared
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.gpu.tensors import as_tensor, torch_of_gpu
from ringtree_bench.gpu.variants import Variant
from ringtree_bench.rivals.protocol import Task, UnsupportedError
from ringtree_bench.rivals.ringtree import Ringtree


class OnGpu:
    """The library that this suite belongs to. Arrays are PyTorch's where there is one, as users' are."""

    name = "ringtree"
    version = rt.__version__

    def __init__(self, seat: Seat) -> None:
        """Make the calls of this seat."""
        self._seat = seat

    @property
    def blocks(self) -> int:
        """See `Rival.blocks`."""
        return self._seat.channels

    def prepare(self, case: Case, memory: Memory, algorithm: str) -> Prepared:
        """See `Rival.prepare`."""
        variant = Variant.parse(algorithm)
        if isinstance(self._seat.calls, rt.cuda.VirtualRanks):
            prepared = self._of_all(self._seat.calls, case, memory, variant.algorithm)
        else:
            prepared = self._of_one(self._seat.calls, case, memory, variant.algorithm)
        settle = partial(self._seat.prefer_packets, case.collective.name, variant.packet_bytes)
        prepared = replace(prepared, load=settle)  # which is not timed
        return _recorded(prepared) if variant.in_graph else prepared

    def _of_all(self, ranks: rt.cuda.VirtualRanks, case: Case, memory: Memory, algorithm: str) -> Prepared:
        if case.op == "premul_sum":
            raise UnsupportedError("virtual ranks have no premul_sum")
        xs = memory.inputs(case)
        results = xs if case.collective.in_place else memory.outputs(case)
        op = "sum" if case.op == "none" else case.op
        call = ranks.prepare(case.collective.name, xs, results, op=op, root=ROOT, algorithm=algorithm)
        return Prepared(call, STREAM_OF_THREAD)

    def _of_one(self, comm: rt.Communicator, case: Case, memory: Memory, algorithm: str) -> Prepared:
        torch = torch_of_gpu()
        x, out = self._array(memory.inputs(case)[0], torch), self._array(memory.outputs(case)[0], torch)
        name = case.collective.name
        task = Task(name, x, out, case.op, algorithm, comm.rank, comm.world_size)
        return Prepared(Ringtree(comm).prepare(task), stream_of(x))

    @staticmethod
    def _array(view: View, torch: Any) -> Any:
        return as_tensor(view, torch) if torch else view

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (rt.InvalidArgument,)

    def close(self) -> None:
        """Leave the seat to whoever opened it."""


def _recorded(prepared: Prepared) -> Prepared:
    """The same call, recorded. One real call comes first, which opens what is opened once."""
    prepared.load()
    prepared.call()
    _core.gpu_synchronize(prepared.stream)
    _core.gpu_begin_recording(prepared.stream)
    prepared.call()
    graph = _core.gpu_end_recording(prepared.stream)
    return replace(prepared, call=partial(graph.replay, prepared.stream))
