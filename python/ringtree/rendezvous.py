"""How ranks that share nothing yet exchange a few bytes each: through MPI, Torch's store, a folder, a parent.

An exchange gives one payload to every rank and returns all of them, in rank order. A communicator needs one.
"""

import os
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ringtree.errors import InvalidArgument, Timeout, TransportError
from ringtree.launch import Launch

Exchange = Callable[[bytes], list[bytes]]

# Each process starts its communicators in the same order, so a count tells them apart.
_generation = 0
# A store that rank 0 serves must live until everybody has read it: as long as the process.
_stores: list[Any] = []


class Gatherer(Protocol):
    """A parent communicator, as far as split() needs one here."""

    world_size: int

    def all_gather(self, out: Any, x: Any) -> Any: ...  # noqa: D102
    def all_gather_v(self, out: Any, x: Any, counts: list[int]) -> Any: ...  # noqa: D102


def find(launch: Launch, environment: Mapping[str, str], address: str | None, timeout: float) -> Exchange:
    """The exchange for a launch: through the folder of a file:// address if there is one, else by launcher.

    Raises:
        InvalidArgument: the address is not one.
        TransportError: the library that the launcher's ranks would meet through is not installed.
    """
    global _generation  # noqa: PLW0603
    _generation += 1
    if address is None:
        address = environment.get("RINGTREE_RENDEZVOUS")
    if launch.world == 1:
        return lambda payload: [payload]
    if address is not None:
        folder = address.removeprefix("file://")
        if folder == address or not folder.startswith("/"):
            raise InvalidArgument(f"rendezvous={address!r} is not an address: it must look like file:///some/folder")
        return through_folder(Path(folder), launch, _generation, timeout)
    if launch.launcher == "mpirun":
        return through_mpi(launch)
    return through_store(launch, environment, _generation, timeout)


def through_mpi(launch: Launch) -> Exchange:
    """Through MPI's own all-gather."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise TransportError(
            f"rank {launch.rank} was started by mpirun, whose ranks meet through mpi4py, which cannot be imported "
            f"({error}): pip install 'ringtree[mpi]', or set RINGTREE_RENDEZVOUS=file:///some/folder"
        ) from error
    world = MPI.COMM_WORLD
    if (world.rank, world.size) != (launch.rank, launch.world):
        raise TransportError(
            f"the launcher says rank {launch.rank} of {launch.world}, mpi4py says rank {world.rank} of {world.size}: "
            "mpirun and mpi4py belong to different MPIs"
        )
    return lambda payload: list(world.allgather(payload))


def through_store(launch: Launch, environment: Mapping[str, str], generation: int, timeout: float) -> Exchange:
    """Through Torch's TCPStore at MASTER_ADDR and MASTER_PORT, which torchrun may serve itself."""
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        raise TransportError(
            f"rank {launch.rank} of {launch.world} was started with {launch.launcher}'s variables, whose ranks meet "
            f"through Torch's store, which cannot be imported ({error}): pip install 'ringtree[torch]', or set "
            "RINGTREE_RENDEZVOUS=file:///some/folder"
        ) from error
    host, port = _store_address(launch, environment)
    serves = launch.rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")

    def exchange(payload: bytes) -> list[bytes]:
        patience = timedelta(seconds=timeout)
        try:
            store = TCPStore(host, port, is_master=serves, timeout=patience, wait_for_workers=False, multi_tenant=True)
        except Exception as error:
            raise TransportError(f"rank {launch.rank} cannot reach the store at {host}:{port}: {error}") from error
        _stores.append(store)

        def key(rank: int) -> str:
            return f"ringtree/{attempt}/{generation}/{rank}"

        store.set(key(launch.rank), payload)
        deadline = time.monotonic() + timeout
        missing = list(range(launch.world))
        while missing and time.monotonic() < deadline:
            missing = [rank for rank in missing if not store.check([key(rank)])]
            time.sleep(0.005 if missing else 0)
        _raise_if_missing(missing, launch, timeout)
        return [bytes(store.get(key(rank))) for rank in range(launch.world)]

    return exchange


def _store_address(launch: Launch, environment: Mapping[str, str]) -> tuple[str, int]:
    if launch.launcher == "slurm" and "MASTER_ADDR" not in environment:
        port = 29500 + int(environment.get("SLURM_JOB_ID", "0")) % 1000
        return environment.get("SLURM_LAUNCH_NODE_IPADDR", "localhost"), port
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in environment:
            raise InvalidArgument(
                f"RANK and WORLD_SIZE are set but {name} is not: set it, or RINGTREE_RENDEZVOUS=file:///some/folder"
            )
    try:
        return environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    except ValueError:
        raise InvalidArgument(f"MASTER_PORT={environment['MASTER_PORT']!r} is not a port") from None


def through_folder(folder: Path, launch: Launch, generation: int, timeout: float) -> Exchange:
    """Through files in a folder that all ranks see and that no earlier run has used."""

    def path(rank: int, what: str) -> Path:
        return folder / f"ringtree-{generation}-{rank}.{what}"

    def wait_for(what: str) -> None:
        deadline = time.monotonic() + timeout
        missing = list(range(launch.world))
        while missing and time.monotonic() < deadline:
            missing = [rank for rank in missing if not path(rank, what).exists()]
            time.sleep(0.002 if missing else 0)
        _raise_if_missing(missing, launch, timeout)

    def exchange(payload: bytes) -> list[bytes]:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path(launch.rank, "payload").exists():
            raise TransportError(f"{folder} holds the files of an earlier run: give each run a folder of its own")
        partial = path(launch.rank, "partial")
        partial.write_bytes(payload)
        partial.rename(path(launch.rank, "payload"))  # at once: nobody reads half a file
        wait_for("payload")
        payloads = [path(rank, "payload").read_bytes() for rank in range(launch.world)]
        path(launch.rank, "read").touch()
        if launch.rank == 0:
            wait_for("read")
            for rank in range(launch.world):
                path(rank, "payload").unlink()
                path(rank, "read").unlink()
        return payloads

    return exchange


def through_parent(parent: Gatherer, members: list[int]) -> Exchange:
    """Through a communicator, all of whose ranks must call the exchange once; keeps the members' payloads."""

    def exchange(payload: bytes) -> list[bytes]:
        sizes = np.empty(parent.world_size, np.int64)
        parent.all_gather(sizes, np.array([len(payload)], np.int64))
        everything = np.empty(int(sizes.sum()), np.uint8)
        parent.all_gather_v(everything, np.frombuffer(payload, np.uint8), [int(size) for size in sizes])
        ends = np.cumsum(sizes)
        return [everything[ends[rank] - sizes[rank] : ends[rank]].tobytes() for rank in members]

    return exchange


def _raise_if_missing(missing: list[int], launch: Launch, timeout: float) -> None:
    if not missing:
        return
    error = Timeout(
        f"rank {launch.rank}, init: {'rank' if len(missing) == 1 else 'ranks'} {', '.join(map(str, missing))} of "
        f"{launch.world} did not come to the rendezvous within {timeout:g} s (process {os.getpid()})"
    )
    error.ranks = tuple(missing)
    raise error
