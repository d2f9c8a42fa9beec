"""NCCL through CuPy, for machines without PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ringtree.buffers import STREAM_OF_THREAD

from ringtree_bench.cases import Case
from ringtree_bench.collectives import ROOT
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals.loaded import version_of
from ringtree_bench.gpu.rivals.protocol import Prepared
from ringtree_bench.gpu.rivals.sharing import most_blocks, refusal_to_share
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.rivals.protocol import UnsupportedError

# By NCCL's own numbers.
_DTYPES = {"int8": 0, "uint8": 1, "int32": 2, "int64": 4, "float16": 6, "float32": 7, "float64": 8}
_OPS = {"none": 0, "sum": 0, "prod": 1, "max": 2, "min": 3, "avg": 4}


class OverCupy:
    """A communicator of cupy.cuda.nccl."""

    name = "nccl"

    @staticmethod
    def missing(seat: Seat) -> str:
        """See `Peer.missing`."""
        try:
            from cupy.cuda import nccl
        except ImportError:
            return "needs PyTorch or CuPy, and a GPU"
        return refusal_to_share(version_of(nccl.get_version()), seat.sharing)

    def __init__(self, seat: Seat) -> None:
        """Join; a collective."""
        from cupy.cuda import nccl

        identity = seat.world.agree(nccl.get_unique_id() if seat.world.is_first else None)
        self._comm: Any = nccl.NcclCommunicator(seat.size, identity, seat.ranks[0])
        self._error: type[Exception] = nccl.NcclError
        self.blocks = most_blocks()
        self.version = f"{'.'.join(map(str, version_of(nccl.get_version())))}, CuPy"

    def prepare(self, case: Case, memory: Memory, algorithm: str) -> Prepared:
        """See `Rival.prepare`."""
        if case.dtype not in _DTYPES or case.op not in _OPS:
            raise UnsupportedError(f"NCCL through CuPy has no {case.kind}")
        return Prepared(self._call(case, memory), STREAM_OF_THREAD)

    def _call(self, case: Case, memory: Memory) -> Callable[[], object]:
        (x,), (out,) = memory.inputs(case), memory.outputs(case)
        comm, count, stream = self._comm, case.count, STREAM_OF_THREAD
        dtype, op = _DTYPES[case.dtype], _OPS[case.op]
        match case.collective.name:
            case "all_reduce":
                return partial(comm.allReduce, x.address, x.address, count, dtype, op, stream)
            case "reduce":
                return partial(comm.reduce, x.address, x.address, count, dtype, op, ROOT, stream)
            case "broadcast":
                return partial(comm.broadcast, x.address, x.address, count, dtype, ROOT, stream)
            case "all_gather":
                return partial(comm.allGather, x.address, out.address, count, dtype, stream)
            case "reduce_scatter":
                return partial(comm.reduceScatter, x.address, out.address, count, dtype, op, stream)
        raise UnsupportedError(f"NCCL through CuPy has no {case.collective.name}")

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (self._error,)

    def close(self) -> None:
        """See `Rival.close`."""
        self._comm.destroy()
