"""Through Torch's TCPStore, for ranks that torchrun has started, or that have its variables or Slurm's.

The store is served by torchrun's agent, else by rank 0.
"""

import itertools
import re
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from ringtree.errors import InvalidArgument, TransportError
from ringtree.rendezvous.wait import Exchange, did_not_come, looks

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_turns = itertools.count(1)  # all ranks count alike, so each rendezvous has keys of its own
_opened: dict[tuple[str, int], "TCPStore"] = {}  # for as long as the process: others may still read from ours

_CONNECT_SECONDS = 1.0  # for one attempt


def through_store(rank: int, world: int, timeout: float, environment: Mapping[str, str]) -> Exchange:
    """Through the store at MASTER_ADDR and MASTER_PORT; with Slurm's variables alone, on the first node.

    Args:
        rank: this rank.
        world: how many there are.
        timeout: seconds.
        environment: where the launcher's variables are.

    Raises:
        InvalidArgument: one of the variables is missing or makes no sense.
        TransportError: Torch cannot be imported.
    """
    host, port = store_address(environment)
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        raise TransportError(
            f"rank {rank}, init: ranks with torchrun's or Slurm's variables meet in Torch's store, which "
            f"cannot be imported ({error}): pip install 'ringtree[torch]', or set "
            "RINGTREE_RENDEZVOUS=file:///some/folder"
        ) from None
    by_agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")

    def open_store(left: float) -> "TCPStore":
        serves = rank == 0 and not by_agent
        if not serves:
            _wait_until_served(host, port, left)
        return TCPStore(
            host,
            port,
            is_master=serves,
            wait_for_workers=False,
            multi_tenant=True,  # the program may open Torch's own process group at the same address
            timeout=timedelta(seconds=left),
        )

    def exchange(payload: bytes) -> list[bytes]:
        try:
            store = _opened.get((host, port)) or open_store(timeout)
        except TimeoutError as error:
            if by_agent:
                raise TransportError(
                    f"rank {rank}, init: torchrun's store at {host}:{port}: {error}"
                ) from None
            raise did_not_come(rank, world, [0], timeout) from None
        except (RuntimeError, OSError) as error:
            does = "serve" if rank == 0 and not by_agent else "reach"
            raise TransportError(
                f"rank {rank}, init: cannot {does} the store at {host}:{port}: {error}"
            ) from None
        _opened[host, port] = store
        turn = next(_turns)
        keys = [f"ringtree/{attempt}/{turn}/{each}" for each in range(world)]
        store.set(keys[rank], payload.hex())  # the store's values are text
        for _ in looks(timeout):
            if store.check(keys):
                return [bytes.fromhex(store.get(key).decode()) for key in keys]
        missing = [each for each, key in enumerate(keys) if not store.check([key])]
        raise did_not_come(rank, world, missing, timeout)

    return exchange


def store_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the store is.

    Raises:
        InvalidArgument: one of the variables is missing or makes no sense.
    """
    if (
        "MASTER_ADDR" not in environment
        and "RANK" not in environment
        and "SLURM_STEP_NODELIST" in environment
    ):
        job, step = (environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        distinct = 16 * _number(job) + _number(step)
        return _first_node(environment["SLURM_STEP_NODELIST"]), 20_000 + distinct % 10_000
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in environment:
            raise InvalidArgument(
                f"the rank and the world size are set, but {name} is not: set it, "
                "or RINGTREE_RENDEZVOUS=file:///some/folder"
            )
    port = _number(environment["MASTER_PORT"])
    if not 0 < port < 2**16:
        raise InvalidArgument(f"MASTER_PORT={environment['MASTER_PORT']!r} is no port")
    return environment["MASTER_ADDR"], port


def _first_node(nodes: str) -> str:
    """Of a list as Slurm writes it: "node[03-07,11],gpu2" begins with node03."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).split(",")[0]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _wait_until_served(host: str, port: int, timeout: float) -> None:
    """Return once somebody listens; Torch's own attempts would neither hear Ctrl-C nor be silent."""
    problem: OSError = TimeoutError(f"nobody has answered within {timeout:g} s")
    for left in looks(timeout):
        try:
            socket.create_connection((host, port), min(max(left, 0.01), _CONNECT_SECONDS)).close()
            return
        except socket.gaierror:
            raise
        except OSError:
            pass
    raise problem
