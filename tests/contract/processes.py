"""Ranks as processes: starts them, collects what each returns or raises in bounded time, leaves none behind.

A fork server that has numpy, ringtree and the cases in memory starts a rank in a few milliseconds. What a
rank runs is a module-level function, also of a test module, which the child loads from its file.
"""

import functools
import importlib.util
import itertools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any, Self
from unittest import mock


@functools.cache
def _fork_server() -> ForkServerContext:
    """Started with this process's path, which Python 3.11 does not tell it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "ringtree", "contract.cases"])
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


# What launchers set; a rank must see only what it is given.
_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "OMPI_", "PMI_", "PMIX_", "SLURM_", "RINGTREE_")

_parent: Connection | None = None


@dataclass(frozen=True)
class Outcome:
    """How a rank ended: with a value, with an exception, or with an exit code before it had either."""

    value: Any = None
    error: BaseException | None = None
    exitcode: int | None = None

    def result(self) -> Any:
        """The value; raises what the rank raised."""
        if self.error is not None:
            raise self.error
        assert self.exitcode is None, f"the rank ended with exit code {self.exitcode} and no result"
        return self.value


def tell(message: Any) -> None:
    """In a rank: says something that the test gets with `Processes.hear`."""
    assert _parent is not None
    _parent.send(("said", message))


def listen() -> Any:
    """In a rank: waits for what the test says with `Processes.say`."""
    assert _parent is not None
    return _parent.recv()


class Processes:
    """`world` processes that run `function(comm, *args)`, or `function(*args)` if they are not `joined`.

    Args:
        function: module-level, and so are functions among the arguments.
        joined: whether each calls `rt.init` first; if not, only the environment says who it is.
        options: for `rt.init`.
        environment: further variables.
        present: the ranks that are started; by default all.
    """

    def __init__(
        self,
        world: int,
        function: Callable[..., Any],
        *args: Any,
        joined: bool = True,
        options: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        present: Sequence[int] | None = None,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rendezvous-")
        rendezvous = f"file://{self._directory.name}"
        self._connections: dict[int, Connection] = {}
        self._processes = {}
        modules = {
            each.__module__: str(sys.modules[each.__module__].__file__)
            for each in (function, *args)
            if isinstance(each, FunctionType)
        }
        server = _fork_server()
        for rank in range(world) if present is None else present:
            ours, theirs = server.Pipe()
            variables = {"RANK": str(rank), "WORLD_SIZE": str(world), "RINGTREE_RENDEZVOUS": rendezvous}
            process = server.Process(
                target=_run_rank,
                args=(theirs, modules, {**variables, **(environment or {})}),
                daemon=True,
            )
            process.start()
            theirs.close()
            ours.send((function, joined, options or {}, args))
            self._connections[rank] = ours
            self._processes[rank] = process

    @property
    def pids(self) -> dict[int, int]:
        """Process ids by rank."""
        return {rank: process.pid or 0 for rank, process in self._processes.items()}

    def hear(self, rank: int, timeout: float = 30) -> Any:
        """The next message of a rank."""
        assert self._connections[rank].poll(timeout), f"rank {rank} said nothing for {timeout} s"
        kind, message = self._connections[rank].recv()
        assert kind == "said", f"rank {rank} ended instead of saying something: {message}"
        return message

    def say(self, rank: int, message: Any = None) -> None:
        """Sends a message that the rank gets with `listen`."""
        self._connections[rank].send(message)

    def wait_for(self, rank: int, timeout: float) -> bool:
        """Whether the rank's process ends, or says something more, within `timeout` seconds."""
        return self._connections[rank].poll(timeout)

    def outcomes(self, timeout: float = 60) -> list[Outcome]:
        """How the ranks ended, in the order of the ranks. A rank that goes on for too long fails the test."""
        deadline = time.monotonic() + timeout
        found: dict[int, Outcome] = {}
        while missing := {self._connections[r]: r for r in self._connections if r not in found}:
            ready = wait(list(missing), max(0, deadline - time.monotonic()))
            assert ready, f"ranks {sorted(missing.values())} have not ended after {timeout} s; found {found}"
            for connection in ready:
                rank = missing[connection]
                try:
                    kind, message = connection.recv()
                except EOFError:
                    self._processes[rank].join(max(0, deadline - time.monotonic()))
                    found[rank] = Outcome(exitcode=self._processes[rank].exitcode)
                else:
                    if kind == "ended":
                        found[rank] = message
        return [found[rank] for rank in sorted(found)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rank, process in self._processes.items():
            self._connections[rank].close()
            process.join(0 if kind else 10)  # a rank that has told its outcome is about to end
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        self._directory.cleanup()


def run_processes(
    world: int, function: Callable[..., Any], *args: Any, timeout: float = 60, **settings: Any
) -> list[Outcome]:
    """Runs `function(comm, *args)` on `world` processes; `settings` as for `Processes`."""
    with Processes(world, function, *args, **settings) as ranks:
        return ranks.outcomes(timeout)


def _load(module: str, file: str) -> None:
    """Pytest imports tests by their files, and so does this: they are found by no name."""
    try:
        if importlib.util.find_spec(module) is not None:
            return
    except ModuleNotFoundError:  # a parent of it
        pass
    for parent in itertools.accumulate(module.split(".")[:-1], "{}.{}".format):
        sys.modules.setdefault(parent, ModuleType(parent))  # imported when pickle names a class inside
    spec = importlib.util.spec_from_file_location(module, Path(file))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[module])


def _run_rank(connection: Connection, modules: dict[str, str], variables: dict[str, str]) -> None:
    global _parent  # noqa: PLW0603 - a process has one
    _parent = connection
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for name in list(os.environ):
        if name.startswith(_LAUNCHERS):
            del os.environ[name]
    os.environ.update(variables)
    for module, file in modules.items():
        _load(module, file)
    import ringtree as rt

    function, joined, options, args = connection.recv()
    try:
        if joined:
            with rt.init(**options) as comm:
                outcome = Outcome(function(comm, *args))
        else:
            outcome = Outcome(function(*args))
    except BaseException as error:
        outcome = Outcome(error=error)
    connection.send(("ended", outcome))
