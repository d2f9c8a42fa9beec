"""The command `ringtree`: what was found on this machine, and the suite."""

import importlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata

import click

from ringtree import RingtreeError, __version__, _core
from ringtree.launch import detect
from ringtree.tuning import read_tuning, tuning_path

# Loaded when called: the suite has dependencies of its own.
_LATER = {
    "bench": ("ringtree_bench.command", "Measure the collectives, beside Gloo's and MPI's."),
    "ddp": ("ringtree_bench.ddp", "Time training steps with Gloo and with ringtree under PyTorch's DDP."),
    "gpu": ("ringtree_bench.gpu.command", "Measure the collectives of arrays on a GPU, beside NCCL's."),
    "growth": ("ringtree_bench.growth", "Draw how time grows with the number of ranks."),
    "run": ("ringtree.run", "Start ranks on this host; survivors are spared."),
    "plan": ("ringtree_bench.plan", "Predict every algorithm's time on a cluster, or check it here."),
    "top": ("ringtree.top", "Show what every rank of a running job does."),
    "trace": ("ringtree.trace", "Say who diverged where, from what ranks left behind."),
    "tune": ("ringtree_bench.tune", "Find this machine's quickest algorithms and write them down."),
}


class _Commands(click.Group):
    """Commands of which some are imported when called, and whose errors take one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *_LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LATER:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = getattr(importlib.import_module(_LATER[cmd_name][0]), cmd_name)
        except ImportError as error:
            raise click.ClickException(
                f"`ringtree {cmd_name}` cannot be loaded ({error}): pip install 'ringtree[bench]'"
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        summaries = {name: command.get_short_help_str() for name, command in self.commands.items()}
        summaries |= {name: summary for name, (_, summary) in _LATER.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(summaries.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RingtreeError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error


@click.group(cls=_Commands)
@click.version_option(__version__, package_name="ringtree")
def main() -> None:
    """Collective communication: measure it, tune it, see what was found."""


@main.command()
def info() -> None:
    """Print what was found: transports, SIMD, libraries, launcher, tuning."""
    facts: Mapping[str, Callable[[], str]] = {
        "ringtree": lambda: __version__,
        "transports": lambda: ", ".join(_core.TRANSPORTS),
        "SIMD": _core.simd,
        "cores": lambda: f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} may be used",
        "/dev/shm": _shared_memory,
        "torch": lambda: _version("torch"),
        "mpi4py": lambda: _version("mpi4py"),
        "MPI": _mpi,
        "mpirun": lambda: shutil.which("mpirun") or "not on PATH",
        "launched by": _launch,
        "RINGTREE_*": _variables,
        "tuning file": _tuning,
    }
    with suppress(RingtreeError):
        if detect(os.environ).rank > 0:
            return  # once is enough under mpirun
    for name, find in facts.items():
        try:
            found = find()
        except (OSError, RingtreeError) as error:
            found = f"{type(error).__name__}: {error}"
        click.echo(f"{name:>12}  {found}")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _shared_memory() -> str:
    space = os.statvfs("/dev/shm")
    size, free = (blocks * space.f_frsize / 2**20 for blocks in (space.f_blocks, space.f_bavail))
    return f"{free:,.0f} of {size:,.0f} MiB free"


def _mpi() -> str:
    try:
        import mpi4py

        mpi4py.rc(initialize=False, finalize=False)  # looking at the version makes nobody a rank
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return f"none that mpi4py finds ({error})"
    return str(MPI.Get_library_version()).splitlines()[0].strip("\0")


def _launch() -> str:
    launch = detect(os.environ)
    return f"{launch.launcher} (rank {launch.rank} of {launch.world})"


def _variables() -> str:
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("RINGTREE_")]
    return " ".join(found) or "none set"


def _tuning() -> str:
    path = tuning_path()
    entries = read_tuning(path)
    worlds = sorted({(entry.transport, entry.world) for entry in entries})
    return f"{path}: " + (", ".join(f"{n} ranks over {name}" for name, n in worlds) or "none")
