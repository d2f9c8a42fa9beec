"""`ringtree run`: starts ranks on this host, spares survivors when one dies, and says who died of what."""

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import click

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
_DRAIN_SECONDS = 1.0  # for output that a rank's own children hold open after its end
_LONGEST_LINE = 1 << 16  # bytes that are held back for want of a newline
_PR_SET_PDEATHSIG = 1

_EXAMPLES = """\b
Examples:
  ringtree run -n 4 train.py --epochs 3
  ringtree run -n 2 -m package.program
  ringtree run -n 8 --on-failure kill --log-dir logs -- ./program argument
"""


@click.command(
    epilog=_EXAMPLES, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("-n", "--ranks", type=click.IntRange(min=1), help="How many; by default one a usable core.")
@click.option("-m", "module", is_flag=True, help="COMMAND is a Python module.")
@click.option(
    "--on-failure",
    type=click.Choice(["wait", "kill"]),
    default="wait",
    show_default=True,
    help="When a rank fails: let the others go on, or end them.",
)
@click.option("--prefix/--no-prefix", default=True, help="Put the rank before each line of output.")
@click.option(
    "--log-dir", type=click.Path(file_okay=False, path_type=Path), help="Keep each rank's output there, too."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    ranks: int | None,
    module: bool,
    on_failure: str,
    prefix: bool,
    log_dir: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND on several ranks of this host: a Python script, a module (-m), or any program.

    Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to every rank; a second Ctrl-C kills them.
    Rank 0 reads standard input. The exit code is that of the first rank that failed, or 128 and the
    signal's number; 0 if none did. No rank outlives this process.
    """
    world = ranks or len(os.sched_getaffinity(0))
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ringtree-run-") as meeting_place:
        job = Job(
            command_line(command, module),
            environments(world, meeting_place, os.environ),
            kill_others=on_failure == "kill",
            prefix=prefix and world > 1,
            log_dir=log_dir,
        )
        code = asyncio.run(job.run())
    sys.exit(code)


def command_line(command: Sequence[str], module: bool) -> list[str]:
    """What to execute: scripts and modules with this interpreter.

    Raises:
        click.ClickException: there is no such program.
    """
    if module:
        return [sys.executable, "-m", *command]
    if command[0].endswith(".py"):
        if not Path(command[0]).exists():
            raise click.ClickException(f"there is no script {command[0]}")
        return [sys.executable, *command]
    if shutil.which(command[0]) is None:
        raise click.ClickException(f"there is no program {command[0]}; a Python module needs -m")
    return list(command)


def environments(world: int, meeting_place: str, around: Mapping[str, str]) -> list[dict[str, str]]:
    """The variables of each rank: torchrun's names, so that programs for it run as they are."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {
        "RINGTREE_RENDEZVOUS": f"file://{meeting_place}",
        "PYTHONUNBUFFERED": "1",  # else output comes late, or never if the rank is killed
        **around,
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RINGTREE_JOB": secrets.token_hex(8),
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


class Job:
    """The processes of one command, their output and their ends."""

    def __init__(
        self,
        command: list[str],
        variables: list[dict[str, str]],
        *,
        kill_others: bool,
        prefix: bool,
        log_dir: Path | None,
    ) -> None:
        """One rank for each of `variables`."""
        self._command, self._variables = command, variables
        self._kill_others, self._prefix, self._log_dir = kill_others, prefix, log_dir
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._code = 0  # of the first that failed
        self._interrupts = 0
        self._began = time.monotonic()

    async def run(self) -> int:
        """Start all, wait for all; the exit code for the launcher."""
        loop = asyncio.get_running_loop()
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._pass_on, number)
        try:
            ends = [asyncio.create_task(self._live(rank)) for rank in range(len(self._variables))]
            await asyncio.gather(*ends)
        finally:
            self._signal_all(signal.SIGKILL)
        return self._code

    async def _live(self, rank: int) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._variables[rank],
            stdin=None if rank == 0 else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C comes to the launcher alone, which passes it on
            preexec_fn=_die_with_parent(),
        )
        self._alive[rank] = process
        with contextlib.ExitStack() as files:
            log: BinaryIO | None = None
            if self._log_dir:
                log = files.enter_context((self._log_dir / f"rank-{rank}.log").open("wb"))
            readers = [
                asyncio.create_task(self._copy(rank, stream, target, log))
                for stream, target in (
                    (process.stdout, sys.stdout.buffer),
                    (process.stderr, sys.stderr.buffer),
                )
            ]
            await process.wait()
            del self._alive[rank]
            _, unfinished = await asyncio.wait(readers, timeout=_DRAIN_SECONDS)
            for reader in unfinished:
                reader.cancel()
        await self._tell_end(rank, process.returncode or 0)

    async def _tell_end(self, rank: int, code: int) -> None:
        if code == 0:
            return
        seconds = time.monotonic() - self._began
        self._say(f"rank {rank} {cause_of(code)} after {seconds:.1f} s")
        if self._code == 0:
            self._code = code if code > 0 else 128 - code
            if self._alive and not self._kill_others:
                self._say(f"ranks still running: {', '.join(map(str, sorted(self._alive)))}")
        if self._kill_others and self._alive:
            self._signal_all(signal.SIGTERM)
            await asyncio.sleep(_GRACE_SECONDS if self._alive else 0)
            self._signal_all(signal.SIGKILL)

    async def _copy(
        self, rank: int, stream: asyncio.StreamReader | None, target: BinaryIO, log: BinaryIO | None
    ) -> None:
        """Whole lines, so that those of different ranks do not mix."""
        assert stream is not None
        head = self._head(rank, target)
        rest = b""
        while chunk := await stream.read(_LONGEST_LINE):
            if log:
                log.write(chunk)
                log.flush()
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            target.write(b"".join(head + line + b"\n" for line in lines))
            target.flush()
        if rest:
            target.write(head + rest + b"\n")
            target.flush()

    def _head(self, rank: int, target: BinaryIO) -> bytes:
        if not self._prefix:
            return b""
        width = len(str(len(self._variables) - 1))
        head = f"[{rank:>{width}}]"
        return (
            click.style(head, fg=_COLOURS[rank % len(_COLOURS)]) if target.isatty() else head
        ).encode() + b" "

    def _pass_on(self, number: signal.Signals) -> None:
        self._interrupts += number == signal.SIGINT
        self._signal_all(signal.SIGKILL if number == signal.SIGINT and self._interrupts > 1 else number)
        self._signal_all(signal.SIGCONT)  # a rank that is stopped would not notice

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._alive.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _say(self, text: str) -> None:
        click.echo(f"ringtree run: {text}", err=True)


def cause_of(code: int) -> str:
    """How a process ended, from its return code, which is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def _die_with_parent() -> Callable[[], None]:
    """What a new process runs first: the kernel shall kill it when the launcher ends, in whatever way."""
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
