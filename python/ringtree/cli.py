"""The `ringtree` command."""

import importlib
import importlib.metadata
import os
import shutil
from typing import Any

import click

from ringtree import TRANSPORTS, __version__, _core
from ringtree.errors import RingtreeError
from ringtree.launch import detect
from ringtree.tuning import tuning_path

# Loaded when they are called: the suite needs packages that the library does not.
_LAZY = {
    "bench": ("ringtree_bench.command:bench", "Measure collectives against the memory's speed and rivals."),
    "tune": ("ringtree_bench.tune:tune", "Measure which algorithm is best where, and write it to the tuning file."),
}


class _Commands(click.Group):
    """A group whose commands of `_LAZY` are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, name = _LAZY[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str() for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted({**own, **{name: text for name, (_, text) in _LAZY.items()}}.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RingtreeError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="ringtree")
def main() -> None:
    """Ring, tree and direct collectives."""


@main.command()
def info() -> None:
    """Print what was found: fabrics, SIMD, libraries, launch, settings."""
    rows = {
        "ringtree": __version__,
        "transports": ", ".join(TRANSPORTS),
        "SIMD": _core.simd(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "/dev/shm": _shared_memory(),
        "GPU": "none: this build has no CUDA fabric",
        **{name: _version(name) for name in ("numpy", "torch", "mpi4py", "ml_dtypes")},
        "launch": _launch(),
        "tuning file": f"{tuning_path()}{'' if tuning_path().exists() else ' (none: declared costs decide)'}",
        "RINGTREE_ALGORITHM": os.environ.get("RINGTREE_ALGORITHM", "not set"),
    }
    for name, value in rows.items():
        click.echo(f"{name:<19} {value}")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError as error:
        return f"not there ({error})"
    return f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB"


def _launch() -> str:
    try:
        launch = detect(os.environ)
    except RingtreeError as error:
        return f"broken: {error}"
    return f"rank {launch.rank} of {launch.world} ({launch.launcher})"
