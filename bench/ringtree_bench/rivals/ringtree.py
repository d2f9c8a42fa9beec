"""ringtree itself, through its public Python API."""

from collections.abc import Callable
from functools import partial

import ringtree as rt

from ringtree_bench.check import PREMUL_FACTOR
from ringtree_bench.collectives import ROOT
from ringtree_bench.rivals.protocol import Task, UnsupportedError


class Ringtree:
    """The library that this suite belongs to."""

    name = "ringtree"

    def __init__(self, comm: rt.Communicator) -> None:
        """Measure `comm`."""
        self._comm = comm
        self.version = rt.__version__

    def prepare(self, task: Task) -> Callable[[], object]:
        """See `Rival.prepare`."""
        comm, x, out, algorithm = self._comm, task.x, task.out, task.algorithm
        op = rt.premul_sum(PREMUL_FACTOR) if task.op == "premul_sum" else task.op
        on_root = task.rank == ROOT
        match task.collective:
            case "all_reduce":
                return partial(comm.all_reduce, x, op, algorithm=algorithm)
            case "reduce":
                return partial(comm.reduce, x, ROOT, op, algorithm=algorithm)
            case "broadcast":
                return partial(comm.broadcast, x, ROOT, algorithm=algorithm)
            case "all_gather":
                return partial(comm.all_gather, out, x, algorithm=algorithm)
            case "reduce_scatter":
                return partial(comm.reduce_scatter, out, x, op, algorithm=algorithm)
            case "all_to_all":
                return partial(comm.all_to_all, out, x, algorithm=algorithm)
            case "gather":
                return partial(comm.gather, out if on_root else None, x, ROOT, algorithm=algorithm)
            case "scatter":
                return partial(comm.scatter, out, x if on_root else None, ROOT, algorithm=algorithm)
            case "sendrecv" if algorithm == "auto":
                after, before = (task.rank + 1) % task.world, (task.rank - 1) % task.world
                return partial(comm.sendrecv, x, out, to=after, source=before)
        raise UnsupportedError(f"{task.collective} has no algorithm {algorithm}")

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (rt.InvalidArgument,)

    def close(self) -> None:
        """Leave the communicator to whoever opened it."""
