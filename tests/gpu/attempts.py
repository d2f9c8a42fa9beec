"""What tests of calls that fail, or follow one another, on the GPU share."""

from collections.abc import Callable

import numpy as np
import ringtree as rt
from contract.attempts import Attempt, attempt
from gpu.memory import on_gpu, ones

Call = Callable[[rt.Communicator], object]

NEEDS_A_STREAM = (
    "ranks that are threads of one process need a stream each, and this one is the process's default stream, in "
    "which one rank's kernel would wait behind another's: take rt.run_local(..., device=\"cuda\"), or a stream "
    "of your own"
)


def sum_of_ranks(comm: rt.Communicator) -> float:
    """On the GPU and on the CPU."""
    x, host = on_gpu(np.full(1000, comm.rank, np.float64)), np.full(1000, comm.rank, np.float64)
    comm.all_reduce(x)
    comm.all_reduce(host)
    assert (np.asarray(x) == host).all()
    return float(host[0])


# What hosts tell each other when a process's first call on the GPU opens the fabric: these have numbers, too.
OPENING_CALLS = 7


def warm(comm: rt.Communicator) -> None:
    """Opens the fabric, so that what follows is a call like any other; returns when all have come so far."""
    comm.all_reduce(ones())
    comm.synchronize()
    comm.barrier()


def on_the_way(comm: rt.Communicator, *calls: Call) -> Attempt:
    """Makes the calls and waits for them."""

    def run() -> None:
        for call in calls:
            call(comm)
        comm.synchronize()

    return attempt(run)
