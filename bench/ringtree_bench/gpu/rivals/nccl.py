"""NCCL, as PyTorch's users call it; without PyTorch, through CuPy."""

import os
from typing import Any

from ringtree_bench.cases import Case
from ringtree_bench.gpu.memory import Memory, stream_of
from ringtree_bench.gpu.rivals.cupy import OverCupy
from ringtree_bench.gpu.rivals.loaded import loaded_nccl
from ringtree_bench.gpu.rivals.protocol import Prepared, Rival
from ringtree_bench.gpu.rivals.sharing import most_blocks, refusal_to_share, sharing_settings
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.gpu.tensors import as_tensor, torch_of_gpu
from ringtree_bench.rivals.c10d import Backend
from ringtree_bench.rivals.protocol import Task


class _Group(Backend):
    """A process group of torch.distributed, called with tensors."""

    name = backend = "nccl"

    def _tensor(self, array: Any) -> Any:
        return array


class OverTorch:
    """torch.distributed's backend."""

    name = "nccl"

    @staticmethod
    def missing(seat: Seat) -> str:
        """See `Peer.missing`."""
        torch = torch_of_gpu()
        if torch is None:
            return "needs a PyTorch that finds a GPU"
        if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
            return "this PyTorch has no NCCL"
        return refusal_to_share(_version(torch), seat.sharing) or _Group.missing(seat.world)

    def __init__(self, seat: Seat) -> None:
        """Join; a collective."""
        self._torch = torch_of_gpu()
        self._seat = seat
        self._group = _Group(seat.world)
        numbers = ".".join(map(str, _version(self._torch)))
        self.blocks = most_blocks()
        self.version = f"{numbers}, {self._group.version}"

    def prepare(self, case: Case, memory: Memory, algorithm: str) -> Prepared:
        """See `Rival.prepare`."""
        (x,), (out,) = memory.inputs(case), memory.outputs(case)
        tensors = as_tensor(x, self._torch), as_tensor(out, self._torch)
        task = Task(case.collective.name, *tensors, case.op, algorithm, self._seat.ranks[0], self._seat.size)
        return Prepared(self._group.prepare(task), stream_of(tensors[0]))

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return self._group.refusals()

    def close(self) -> None:
        """See `Rival.close`."""
        self._group.close()


class Nccl:
    """Whichever way there is: a peer of the suite."""

    def missing(self, seat: Seat) -> str:
        """See `Peer.missing`."""
        return _way().missing(seat)

    def __call__(self, seat: Seat) -> Rival:
        """See `Peer.__call__`."""
        for name, value in sharing_settings(seat.sharing, seat.channels).items():
            os.environ.setdefault(name, value)
        return _way()(seat)


def _way() -> type[OverTorch] | type[OverCupy]:
    return OverCupy if torch_of_gpu() is None else OverTorch


def _version(torch: Any) -> tuple[int, ...]:
    """Of the library that is called; of what PyTorch was compiled with where NCCL is a part of PyTorch."""
    return loaded_nccl() or tuple(torch.cuda.nccl.version())
