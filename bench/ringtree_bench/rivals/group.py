"""A rival in processes of its own, which another environment's mpirun has started, one beside each rank.

Each rank talks with its own worker over a Unix socket, and sleeps in a read of it while the worker is timed;
the worker sleeps likewise while others are. What a line says is in worker.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import IO, Any

import numpy as np

from ringtree_bench.buffers import largest
from ringtree_bench.cases import Case
from ringtree_bench.check import PERIOD, Array, spoil_byte
from ringtree_bench.rivals.environment import Environment
from ringtree_bench.rivals.protocol import UnsupportedError
from ringtree_bench.world import World

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_LEAVE_SECONDS = 10.0
_LONGEST_REASON = 200
_LONGEST_FOLDER = 100  # a Unix socket's path may have 107 bytes


class Group:
    """The workers of one rival, as one rank sees them. Construct it on all ranks; a collective."""

    def __init__(self, world: World, environment: Environment, cases: list[Case]) -> None:
        """Start the workers and give them memory for the largest of `cases`.

        Raises:
            UnsupportedError: on all ranks, with the same text: they could not be started.
        """
        self.name, self.version, self.problem = environment.name, "", ""
        self._world = world
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._output: IO[bytes] | None = None
        self._settings: list[str] = []
        problem, folder = world.agree(_meeting_place(world, environment) if world.is_first else None)
        if not problem:
            problem = self._meet(environment, folder)
            if not problem:
                inputs, outputs = largest(cases)
                problem = self.ask({"do": "allocate", "x": inputs, "out": outputs}).get(
                    "problem", self.problem
                )
        problems = [text for text in world.gather(problem) if text]
        if problems:
            self.close()
            raise UnsupportedError(problems[0])

    def _meet(self, environment: Environment, folder: str) -> str:
        """Let the first rank start the workers, and wait for this rank's; why it has not come, or nothing."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/{self._world.rank}")
            listener.listen(2)
            listener.settimeout(_LOOK_SECONDS)
            cores = set().union(*self._world.gather(os.sched_getaffinity(0)))  # and by now all listen
            problem = self._start(environment, folder, cores) if self._world.is_first else ""
            deadline = time.monotonic() + min(_START_SECONDS, self._world.comm.timeout)
            while not problem and self._connection is None:
                with suppress(TimeoutError):
                    self._connection, _ = listener.accept()
                    break
                if self._process and self._process.poll() is not None:
                    problem = f"its mpirun ended: {self._last_words()}"
                elif time.monotonic() > deadline:
                    problem = f"its processes did not start within {_START_SECONDS:g} s: {self._last_words()}"
            if self._connection:
                problem = self._greet(self._connection)
            if problem and self._world.is_first:
                _tell_the_others(folder, self._world.size, problem)
            self._world.gather(None)  # all have met, or know why not
        if self._world.is_first:
            shutil.rmtree(folder, ignore_errors=True)
        return problem

    def _greet(self, connection: socket.socket) -> str:
        """Hear who has come; what is wrong with it, or what the first rank has to say instead."""
        connection.settimeout(self._world.comm.timeout)
        self._stream = connection.makefile("rwb")
        hello = self._answer()
        problem: str = hello.get("problem", self.problem)
        if not problem and hello["world"] != self._world.size:
            problem = "its mpi4py is linked to another MPI than that of its mpirun"
        self.version = ", ".join([hello.get("version", ""), *self._settings])
        return problem

    def _start(self, environment: Environment, folder: str, cores: set[int]) -> str:
        variables = environment.variables(os.environ)
        try:
            launcher = environment.launcher(variables)
            self._settings = [
                f"{name}={variables.get(name, value)}" for name, value in launcher.settings.items()
            ]
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read when mpirun has ended
            self._process = _on_cores(cores, lambda: subprocess.Popen(
                environment.command(launcher, self._world.size, folder),
                env={**launcher.settings, **variables}, stdin=subprocess.DEVNULL, stdout=self._output,
                stderr=subprocess.STDOUT, start_new_session=True,
            ))  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return f"its mpirun cannot be run: {error}"
        return ""

    def _last_words(self) -> str:
        """The end of what mpirun has printed, on the rank that started it."""
        if self._output is None:
            return "the first rank knows why"
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().decode(errors="replace").splitlines()]
        said = [line for line in lines if line.strip(" -=*")]
        return said[-1][:_LONGEST_REASON] if said else "it said nothing"

    def prepare_case(self, case: Case, x: Array, out: Array) -> "GroupCall":
        """The measured call of `case`, which takes its input from `x` and gives its result into `x` or `out`.

        Raises:
            UnsupportedError: the rival does not do this, or no longer does anything.
        """
        self._require()
        item, gives, gets = (
            x.itemsize,
            case.collective.sends(case.world),
            case.collective.receives(case.world),
        )
        ends = np.cumsum([0, *case.parts]) * item
        parts = [
            [int(begin * gives), int(end * gives), int(begin * gets), int(end * gets)]
            for begin, end in pairwise(ends)
        ]
        what = {"collective": case.collective.name, "dtype": case.dtype, "op": case.op, "parts": parts}
        self._require(self.ask({"do": "prepare", **what}))
        return GroupCall(self, case, x, out)

    def give_up(self, reason: str) -> None:
        """Ask these workers for nothing more, and end them."""
        self.problem = self.problem or reason
        self.close()

    def _require(self, answer: dict[str, Any] | None = None) -> None:
        problem = self.problem or (answer or {}).get("problem", "")
        if problem:
            raise UnsupportedError(problem)

    def ask(self, order: Mapping[str, Any], payload: Array | None = None) -> dict[str, Any]:
        """Send one order and wait for its answer; empty, with `problem` set, where none comes any more."""
        if self.problem:
            return {}
        try:
            self._stream.write(json.dumps(order).encode() + b"\n")
            if payload is not None:
                self._stream.write(payload.data)
            self._stream.flush()
        except OSError as error:
            self._break(error)
            return {}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
            if line:
                answer: dict[str, Any] = json.loads(line)
                return answer
            self._break(None)
        except (OSError, ValueError) as error:
            self._break(error)
        return {}

    def read_into(self, array: Array) -> None:
        """What follows an answer, as this array's bytes."""
        room = array.view(np.uint8).data
        try:
            while room and not self.problem:
                got = self._stream.readinto(room)
                if not got:
                    self._break(None)
                room = room[got:]
        except OSError as error:
            self._break(error)

    def _break(self, error: Exception | None) -> None:
        """Give the workers up; a closed socket makes them abort, so that no other rank waits for them."""
        slow = isinstance(error, TimeoutError)
        why = f"it gave no answer for {self._world.comm.timeout:g} s" if slow else "its processes ended"
        if self._process and not slow:
            with suppress(subprocess.TimeoutExpired):  # the launcher may still be printing why
                self._process.wait(1.0)
        self.problem = f"{why}: {self._last_words()}" if self._process else why
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return ()

    def close(self) -> None:
        """Let the workers go, and see to it that nothing of theirs is left."""
        if self._connection and not self.problem:
            with suppress(OSError):
                self._stream.write(b'{"do": "leave"}\n')
                self._stream.flush()
        process = self._process
        if process:
            for patience, last_resort in ((_LEAVE_SECONDS, signal.SIGTERM), (1.0, signal.SIGKILL)):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.0 if self.problem and last_resort is signal.SIGTERM else patience)
                    break
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, last_resort)
            process.wait()
        self._hang_up()


class GroupCall:
    """What a group has prepared; calling it is for checks, `seconds` for timing."""

    def __init__(self, group: Group, case: Case, x: Array, out: Array) -> None:
        """Take the input from `x`; the result goes to `x` or to `out`."""
        self._group, self._case, self._x, self._out = group, case, x, out
        self._has_run = False

    @property
    def problem(self) -> str:
        """Why the group no longer answers, or nothing."""
        return self._group.problem

    def __call__(self) -> None:
        """One call on the input in `x`, with its result brought back.

        Raises:
            UnsupportedError: the library raised in its first call, as it does on all ranks alike.
        """
        group, block = self._group, self._x[:PERIOD].view(np.uint8)
        spoiled = spoil_byte(self._x.dtype)
        group.ask({"do": "load", "bytes": block.size, "spoiled": spoiled}, block)
        refusal = self._run(times=1, refresh=False).get("problem")
        if refusal and not self._has_run:
            raise UnsupportedError(refusal)
        self._has_run = True
        in_place = self._case.collective.in_place
        group.ask({"do": "fetch", "name": "x" if in_place else "out"})
        group.read_into(self._x if in_place else self._out)

    def seconds(self, times: int, refresh: bool) -> float:
        """How long `times` calls in a row take this rank's worker; infinite where it no longer answers."""
        return float(self._run(times, refresh).get("seconds", inf))

    def _run(self, times: int, refresh: bool) -> dict[str, Any]:
        answer = self._group.ask({"do": "run", "times": times, "refresh": refresh})
        if "problem" in answer and self._has_run:
            self._group.give_up(answer["problem"])
        return answer


def _meeting_place(world: World, environment: Environment) -> tuple[str, str]:
    """Why there is none, and the folder in which the workers find the ranks' sockets."""
    problem = environment.problem()
    if not world.on_one_host:
        problem = "rivals from other environments need all ranks on one host"
    if problem:
        return problem, ""
    folder = tempfile.mkdtemp(prefix="ringtree-")
    if len(folder) > _LONGEST_FOLDER:
        Path(folder).rmdir()
        return f"a socket's path cannot be as long as {folder}; set TMPDIR to a shorter one", ""
    return "", folder


def _on_cores(cores: set[int], start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process that may run on any of `cores`, even if this rank is bound to one of them."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return start()
    finally:
        os.sched_setaffinity(0, own)


def _tell_the_others(folder: str, world: int, problem: str) -> None:
    for rank in range(1, world):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{folder}/{rank}")
            connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
