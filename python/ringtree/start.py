"""rt.init: from what the launcher has left in the environment to a communicator of all ranks."""

import os
from collections.abc import Mapping

from ringtree.communicator import Communicator, open_communicator
from ringtree.launch import Launch, detect, timeout_of
from ringtree.rendezvous import Exchange, through_folder, through_mpi, through_store
from ringtree.tuning import Settings, read_settings


def init(
    *, timeout: float | None = None, transport: str = "auto", rendezvous: str | None = None
) -> Communicator:
    """Open the communicator of all ranks; each calls this once. Alone, a process is a world of one.

    The rank and the world size come from torchrun's variables, then mpirun's (Open MPI, MPICH, Intel MPI),
    then Slurm's. Ranks meet through Torch's store, through MPI, or in a folder.

    Args:
        timeout: seconds that bound every wait; by default those in RINGTREE_TIMEOUT, else 300.
        transport: "shm" (processes of one host), "threads" (of one process), or "auto".
        rendezvous: "file:///some/folder", to meet there whatever the launcher is; by default what is in
            RINGTREE_RENDEZVOUS, else the launcher's way.

    Raises:
        InvalidArgument: an argument or a variable is wrong, or missing; names it.
        TransportError: the ranks cannot reach one another, or lack a library to meet; says which.
        Timeout: not all ranks came in time; `.ranks` names them.
    """
    seconds = timeout_of(timeout, os.environ)
    launch = detect(os.environ)
    address = rendezvous if rendezvous is not None else os.environ.get("RINGTREE_RENDEZVOUS")
    exchange = exchange_of(launch, address, seconds, os.environ)
    if transport == "auto":
        transport = "shm" if launch.world > 1 else "threads"
    settings = read_settings() if launch.rank == 0 else Settings()
    faults = os.environ.get("RINGTREE_FAULT", "")
    return open_communicator(transport, launch.rank, launch.world, seconds, exchange, settings, faults)


def exchange_of(
    launch: Launch, address: str | None, timeout: float, environment: Mapping[str, str]
) -> Exchange:
    """The rendezvous of a launch, in the folder at `address` if there is one."""
    if launch.world == 1:
        return lambda payload: [payload]
    if address is not None:
        return through_folder(address, launch.rank, launch.world, timeout)
    if launch.launcher == "mpirun":
        return through_mpi(launch.rank, launch.world, timeout)
    return through_store(launch.rank, launch.world, timeout, environment)
