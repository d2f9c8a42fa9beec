"""Ranks of torch.distributed as processes, forked from this one, which has imported torch and run nothing.

A fork takes milliseconds where starting Python and importing torch takes seconds.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from ringtree.torch_backend import register

register()
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """How a rank ended: with a value, with an error and its traceback, or with an exit code before either."""

    value: Any = None
    error: BaseException | None = None
    trace: str = ""
    exitcode: int | None = None

    def result(self) -> Any:
        assert self.exitcode is None, f"the rank ended with exit code {self.exitcode} and no result"
        assert self.error is None, self.trace
        return self.value


class TorchRanks:
    """`world` processes that join a group of `backend` and run `function(*args)`.

    Args:
        function: may be local: it is inherited, not sent.
        timeout: the group's, in seconds.
        join: whether each calls init_process_group first. RANK and WORLD_SIZE are set anyhow.
    """

    def __init__(
        self,
        world: int,
        function: Callable[..., Any],
        *args: Any,
        backend: str = "ringtree",
        timeout: float = 60,
        join: bool = True,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="torch-ranks-")
        self._connections: list[Connection] = []
        self.processes = []
        for rank in range(world):
            ours, theirs = _FORK.Pipe()
            process = _FORK.Process(
                target=_run,
                args=(
                    theirs,
                    self._folder.name,
                    rank,
                    world,
                    backend if join else None,
                    timeout,
                    function,
                    args,
                ),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self.processes.append(process)

    def outcome_of(self, rank: int, timeout: float = 120) -> Outcome:
        """How a rank ended. One that takes too long fails the test."""
        connection, process = self._connections[rank], self.processes[rank]
        assert connection.poll(timeout), f"rank {rank} goes on for too long"
        try:
            return pickle.loads(connection.recv_bytes())
        except EOFError:
            process.join(10)
            return Outcome(exitcode=process.exitcode)

    def outcomes(self, timeout: float = 120) -> list[Outcome]:
        """How all ended."""
        deadline = time.monotonic() + timeout
        return [
            self.outcome_of(rank, max(0, deadline - time.monotonic())) for rank in range(len(self.processes))
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.join(10)
        self._folder.cleanup()


def run_ranks(world: int, function: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    """What `function(*args)` returns on each rank."""
    with TorchRanks(world, function, *args, **options) as ranks:
        return [outcome.result() for outcome in ranks.outcomes()]


def join_group(rank: int, world: int, backend: str, folder: str, timeout: float) -> None:
    dist.init_process_group(
        backend,
        store=dist.FileStore(str(Path(folder) / "store"), world),
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout),
    )


def _run(
    parent: Connection,
    folder: str,
    rank: int,
    world: int,
    backend: str | None,
    timeout: float,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if backend is not None:
            join_group(rank, world, backend, folder, timeout)
        outcome = Outcome(function(*args))
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException as error:
        outcome = Outcome(error=error.with_traceback(None), trace=traceback.format_exc())
    try:
        message = pickle.dumps(outcome)
    except Exception:
        message = pickle.dumps(Outcome(error=RuntimeError(str(outcome.error)), trace=outcome.trace))
    parent.send_bytes(message)
