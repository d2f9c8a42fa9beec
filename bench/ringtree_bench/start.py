"""How a command becomes a world: started by mpirun or torchrun, or by itself with `-n N`."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import ringtree as rt

from ringtree_bench.world import World

EXIT_USAGE = 2

_POLL_SECONDS = 0.05


@contextmanager
def opened_world(ranks: int | None, timeout: float | None = None) -> Iterator[World]:
    """The world that this process was started in, or this command again as `ranks` processes, and exit.

    `timeout`: see `rt.init`.
    """
    comm = rt.init(timeout=timeout)
    with comm:
        if comm.world_size > 1 or ranks == 1:
            world = World(comm)
            with explained_once(world):
                if ranks not in (None, world.size):
                    raise ValueError(f"-n {ranks}: this is already a world of {world.size} ranks")
            yield world
            return
    if ranks is None:
        name = click.get_current_context().info_name
        click.echo(
            f"A single rank has nobody to talk to. Start several:\n\n"
            f"    mpirun -n 2 ringtree {name}\n"
            f"    ringtree {name} -n 2          (without MPI)",
            err=True,
        )
        sys.exit(EXIT_USAGE)
    sys.exit(run_as_ranks(ranks, sys.argv[1:]))


@contextmanager
def explained_once(world: World) -> Iterator[None]:
    """All ranks stop when the options make no sense to one of them; the first rank says why, and fails.

    The others end well: a launcher that sees a failure kills the rest before they have cleaned up. Threads
    have none, and the first of them to end speaks for the process. A collective.
    """
    problem = ""
    try:
        yield
    except ValueError as error:
        problem = str(error)
    problems = [text for text in world.gather(problem) if text]
    if problems:
        if world.is_first:
            click.echo(f"Error: {problems[0]}", err=True)
        sys.exit(EXIT_USAGE if world.is_first or world.comm.transport == "threads" else 0)


def run_as_ranks(count: int, arguments: list[str]) -> int:
    """Run `ringtree` with `arguments` as `count` processes; the first exit status that is not 0, else 0.

    When one rank fails, the others are stopped: they would only wait for it.
    """
    with tempfile.TemporaryDirectory(prefix="ringtree-") as meeting_place:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "ringtree", *arguments],
                env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                     "RINGTREE_RENDEZVOUS": f"file://{meeting_place}"},
            )
            for rank in range(count)
        ]  # fmt: skip
        try:
            while True:
                statuses = [rank.poll() for rank in ranks]
                failed = [status for status in statuses if status]
                if failed or None not in statuses:
                    return failed[0] if failed else 0
                time.sleep(_POLL_SECONDS)
        finally:
            for rank in ranks:
                if rank.poll() is None:
                    rank.send_signal(signal.SIGTERM)
            for rank in ranks:
                rank.wait()
