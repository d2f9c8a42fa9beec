"""`ringtree.init()`: from a launched process to a communicator over all of its launch's ranks."""

import os

from ringtree.communicator import Communicator
from ringtree.launch import detect, timeout_from
from ringtree.rendezvous import find
from ringtree.tuning import settings_text


def init(*, timeout: float | None = None, transport: str = "auto", rendezvous: str | None = None) -> Communicator:
    """Join the other ranks of this launch. Collective; may be called again for another communicator.

    Rank and world size come from torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), else
    from mpirun's (Open MPI, MPICH, Intel MPI), else from Slurm's inside a job step; without any of them this is a
    world of one.

    Args:
        timeout: seconds that bound every wait, also later ones; default RINGTREE_TIMEOUT, else 300.
        transport: "auto", or one of `ringtree.TRANSPORTS`.
        rendezvous: "file:///some/folder", fresh and visible to all ranks, through which they meet instead of
            through MPI or Torch's store; default RINGTREE_RENDEZVOUS.

    Raises:
        InvalidArgument: an argument or an environment variable is wrong or missing; it is named.
        TransportError: the ranks cannot meet or cannot share memory.
        Timeout: ranks did not come; `.ranks` names them.
    """
    seconds = timeout_from(os.environ, timeout)
    launch = detect(os.environ)
    exchange = find(launch, os.environ, rendezvous, seconds)
    if transport == "auto":
        transport = "threads" if launch.world == 1 else "shm"
    return Communicator(transport, launch.rank, launch.world, seconds, exchange, settings_text())
