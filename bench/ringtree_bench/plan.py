"""`ringtree plan`: how long each algorithm would take on so many ranks and hosts, and which is quickest."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import ringtree as rt

from ringtree_bench import machine
from ringtree_bench.buffers import bytes_available, bytes_needed
from ringtree_bench.cases import cases_of_sizes
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.command import require_plotting
from ringtree_bench.options import require_folders
from ringtree_bench.planning import table
from ringtree_bench.planning.constants import Constants, built_in, read_constants, write_constants
from ringtree_bench.planning.crossovers import crossovers
from ringtree_bench.planning.measured import Check, checks, constants_from, measure_times, split
from ringtree_bench.planning.model import Job, Network
from ringtree_bench.planning.units import parse_bandwidth, parse_time
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size, parse_size, parse_sizes
from ringtree_bench.start import EXIT_USAGE, explained_once, opened_world
from ringtree_bench.world import World

_SIZES, _MEASURED_SIZES = "8:1G", "64:64M"
_PLANNED = [name for name in COLLECTIVES if name in rt.COLLECTIVES]

_EXAMPLES = """\b
Examples:
  ringtree plan --ranks 8
  ringtree plan --ranks 1024 --hosts 128 --alpha 5us --bandwidth 50GB/s --plot plan.svg
  ringtree plan --measure --ranks 2 --save here.json     or: mpirun -n 2 ringtree plan --measure
  ringtree plan --ranks 64 --hosts 32 --alpha 5us --bandwidth 100Gb/s --constants here.json
"""


@click.command(epilog=_EXAMPLES)
@click.option("-n", "--ranks", type=click.IntRange(min=1), help="How many ranks there are.")
@click.option(
    "--hosts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="They are spread evenly over these.",
)
@click.option("--alpha", metavar="TIME", help="Of a hand-over between hosts: 5us.")
@click.option(
    "--bandwidth", metavar="RATE", help="Of a host's link to the others, each way: 50GB/s, 400Gb/s."
)
@click.option(
    "--gap", metavar="TIME", default="10ns", show_default=True, help="Between two messages of one host."
)
@click.option(
    "--piece", metavar="SIZE", default="256K", show_default=True, help="What crosses between hosts at once."
)
@click.option(
    "--intra-alpha", metavar="TIME", help="Of a hand-over inside a host; measured over shm if not given."
)
@click.option(
    "--intra-bandwidth", metavar="RATE", help="What a rank reads plus writes; measured over shm if not given."
)
@click.option(
    "--collective", type=click.Choice(_PLANNED), default="all_reduce", show_default=True, help="Which one."
)
@click.option(
    "--sizes",
    metavar="FIRST:LAST[:FACTOR]",
    help=f"Bytes of the whole array, as for bench.  [default: {_SIZES}, with --measure {_MEASURED_SIZES}]",
)
@click.option(
    "--constants",
    "constants_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take what holds inside a host from a file that --save has written.",
)
@click.option(
    "--measure", is_flag=True, help="Fit the constants to this machine, and check predictions against it."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, min_open=True),
    default=0.6,
    show_default=True,
    help="With --measure: time for one size, all algorithms together.",
)
@click.option(
    "--save",
    "save_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --measure: write the constants to this file.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it: .png, .svg or .pdf.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers."
)
def plan(
    ranks: int | None, hosts: int, alpha: str | None, bandwidth: str | None, gap: str, piece: str,
    intra_alpha: str | None, intra_bandwidth: str | None, collective: str, sizes: str | None,
    constants_path: Path | None, measure: bool, seconds: float, save_path: Path | None,
    plot_path: Path | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Predict the time of every algorithm by size, from the steps and bytes that it declares.

    On one host a prediction needs nothing more; several hosts need --alpha and --bandwidth. docs/planning.md
    explains the model and what it leaves out.
    """
    outputs = (plot_path, json_path, save_path)
    if measure:
        given = [hosts > 1, alpha, bandwidth, intra_alpha, intra_bandwidth, constants_path]
        with opened_world(ranks) as world:
            with explained_once(world):
                if any(given):
                    raise ValueError(
                        "--measure finds the constants inside this host: give none, and no hosts"
                    )
                wanted = _checked_sizes(sizes, collective, world.size, outputs)
            _measure(world, collective, wanted, seconds, outputs)
        return
    with _one_line():
        if ranks is None:
            raise ValueError("how many ranks? Write --ranks 8, or --measure to measure this machine")
        if save_path:
            raise ValueError("--save keeps what --measure finds: give both")
        constants = read_constants(constants_path) if constants_path else built_in()
        constants = _replaced(constants, intra_alpha, intra_bandwidth)
        job = Job(ranks, constants, _network(ranks, hosts, alpha, bandwidth, gap, piece))
        wanted = parse_sizes(sizes or _SIZES)
        _check_outputs(*outputs)
    _show(job, collective, wanted, [], Screen(True), *outputs[:2])


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_USAGE)


def _network(
    ranks: int, hosts: int, alpha: str | None, bandwidth: str | None, gap: str, piece: str
) -> Network | None:
    if hosts == 1:
        if alpha or bandwidth:
            raise ValueError(
                "--alpha and --bandwidth hold between hosts: give --hosts, or --intra-alpha and so on"
            )
        return None
    if ranks % hosts:
        raise ValueError(f"{ranks} ranks cannot be spread evenly over {hosts} hosts")
    if not alpha or not bandwidth:
        raise ValueError("several hosts need --alpha and --bandwidth, such as --alpha 5us --bandwidth 50GB/s")
    return Network(hosts, parse_time(alpha), parse_bandwidth(bandwidth), parse_time(gap), parse_size(piece))


def _replaced(constants: Constants, alpha: str | None, bandwidth: str | None) -> Constants:
    if alpha:
        constants = replace(constants, step=parse_time(alpha), source="as given")
    if bandwidth:
        rate = {1: parse_bandwidth(bandwidth)}
        constants = replace(constants, bandwidth=rate, source="as given")
    return constants


def _checked_sizes(
    sizes: str | None, collective: str, world: int, outputs: tuple[Path | None, ...]
) -> tuple[int, ...]:
    """The sizes to measure; a ValueError says what is at fault."""
    wanted = parse_sizes(sizes or _MEASURED_SIZES)
    if world == 1:
        raise ValueError("a single rank hands nothing over: measure with -n 2 or more")
    cases = cases_of_sizes(collective, wanted, "float32", "sum", world)
    if len(cases) < 3:
        raise ValueError("--measure needs three sizes or more: it fits to every other one")
    if bytes_needed(cases) > bytes_available():
        raise ValueError(f"the buffers of all ranks need {format_size(bytes_needed(cases))}B of memory")
    _check_outputs(*outputs)
    return wanted


def _check_outputs(*paths: Path | None) -> None:
    if paths[0]:
        require_plotting(paths[0])
    require_folders(*paths)


def _measure(
    world: World, collective: str, sizes: tuple[int, ...], seconds: float, outputs: tuple[Path | None, ...]
) -> None:
    """Fit, check and show; a collective, in which the first rank speaks and writes."""
    plot_path, json_path, save_path = outputs
    screen = Screen(world.is_first)
    screen.say(f"# {world.size} ranks over {world.comm.transport}, {machine.in_words()}")
    times = measure_times(world, collective, sizes, seconds, screen)
    if not world.is_first:
        return
    constants = constants_from(times, collective, world.size, f"measured with {world.size} ranks")
    job = Job(world.size, constants)
    fitted, _ = split(sorted(times))
    points = list(checks(times, job, collective, fitted))
    for line in (*(f"# {text}" for text in table.in_full(constants)), "#", *table.comparison(points)):
        screen.say(line)
    if save_path:
        about = {"machine": machine.machine(), "transport": world.comm.transport}
        write_constants(save_path, constants, collective=collective, world=world.size, **about)
    _show(job, collective, tuple(sorted(times)), points, screen, plot_path, json_path)


def _show(
    job: Job, collective: str, sizes: tuple[int, ...], points: list[Check], screen: Screen,
    plot_path: Path | None, json_path: Path | None,
) -> None:  # fmt: skip
    times = {size: job.times(collective, size) for size in sizes}
    changes = crossovers(lambda size: job.times(collective, size), sizes)
    about = list(table.preamble(job, collective))
    if points:
        about.append("points are measured; the constants were fitted to open ones, filled ones check them")
    else:
        for line in (*(f"# {text}" for text in about), "# times in us", "#", *table.predictions(times), "#"):
            screen.say(line)
    for line in table.changes_in_words(changes):
        screen.say(f"# {line}")
    if plot_path:
        from ringtree_bench.planning.drawing import draw_plan

        draw_plan(times, changes, points, about[0], "\n".join(about[1:]), plot_path)
    if json_path:
        document: dict[str, Any] = {
            "version": 1,
            "collective": collective,
            **asdict(job),
            "rows": [{"size": size, "times": row} for size, row in times.items()],
            "crossovers": [asdict(change) for change in changes],
            "checks": [asdict(point) for point in points],
        }
        json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
