"""`ringtree bench`: from the options to the table, the record and the plot."""

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import ringtree as rt

from ringtree_bench import record
from ringtree_bench.buffers import bytes_available, bytes_needed
from ringtree_bench.cases import Case
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.growing import GrowingRecord
from ringtree_bench.mixes import MIXES, cases_of_mix
from ringtree_bench.options import (
    EXIT_WRONG,
    how_to_measure,
    listed,
    listed_cases,
    listed_peers,
    require_folders,
    require_kind,
    what_to_measure,
)
from ringtree_bench.rivals import PEERS
from ringtree_bench.rivals.environment import FOLDER_VARIABLE, parse_against
from ringtree_bench.rounds import Budget
from ringtree_bench.run import Run
from ringtree_bench.sizes import format_size
from ringtree_bench.start import explained_once, opened_world

_EXAMPLES = """\b
Examples:
  mpirun -n 2 ringtree bench
  mpirun -n 4 ringtree bench --collective all --sizes 1K:16M:4 --json run.json --plot run.png
  mpirun -n 2 ringtree bench --algorithm all --peers mpi
  ringtree bench -n 2 --peers gloo
  ringtree bench -n 2 --against impi-rt=~/venvs/impi
"""


@click.command(epilog=_EXAMPLES)
@what_to_measure(COLLECTIVES, "8:256M")
@click.option(
    "--zero-copy",
    is_flag=True,
    help="Take all arrays from comm.empty(), whose memory the ranks map.",
)
@click.option(
    "--peers",
    default="gloo,mpi",
    show_default=True,
    metavar="NAME,...|none",
    help=f"Who is measured beside ringtree: {', '.join(PEERS)}.",
)
@click.option(
    "--against",
    metavar="NAME=VENV,...",
    help="MPIs of other virtual environments, started by their own mpirun, measured in turn with the rest; "
    f"NAME alone lies in ${FOLDER_VARIABLE}.",
)
@click.option(
    "--mix",
    type=click.Choice(list(MIXES)),
    help="Instead of sizes: a training step's gradient buckets of ResNet-50 and GPT-2 small.",
)
@how_to_measure(2.0)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it: .png, .svg or .pdf.",
)
@click.option(
    "-n",
    "--ranks",
    type=click.IntRange(min=1),
    help="Start this many ranks here, without mpirun (and so without MPI as a peer).",
)
def bench(
    collective: str, sizes: str, dtype: str, op: str, algorithm: str, zero_copy: bool, peers: str,
    against: str | None, mix: str | None, seconds: float, iterations: int | None, seed: int | None,
    json_path: Path | None, plot_path: Path | None, ranks: int | None,
) -> None:  # fmt: skip
    """Time ringtree beside Gloo and MPI, check every result, and print nccl-tests' table.

    Started alone, without -n, it says so and stops: a single rank has nobody to talk to. `-n 1` measures
    what the calls themselves cost. The exit status is 1 if any element of any checked result is wrong.
    """
    with opened_world(ranks) as world:
        with explained_once(world):
            environments = parse_against(against, os.environ) if against else []
            cases = chosen_cases(collective, sizes, dtype, op, mix, world.size, 1 + len(environments))
            algorithms = chosen_algorithms(algorithm, cases)
            peer_names = listed_peers(peers, PEERS)
            require_new_names(peer_names, [environment.name for environment in environments])
            if plot_path:
                require_plotting(plot_path)
            require_folders(json_path, plot_path)
        seed = world.agree(secrets.randbits(48) if seed is None else seed)
        run = Run(world, cases, peer_names, seed, environments, zero_copy)
        rows = run.measure(algorithms, Budget(seconds, iterations))
        wrong = run.close(rows)
        if world.is_first and (json_path or plot_path):
            document = record.document(run, rows)
            if json_path:
                GrowingRecord(json_path).write(document)
            if plot_path:
                from ringtree_bench.plot import draw

                draw(document, plot_path)
    if wrong and world.is_first:  # the others end well, see `explained_once`
        sys.exit(EXIT_WRONG)


def require_new_names(peers: Sequence[str], others: Sequence[str]) -> None:
    """Refuse two columns of one name."""
    for name in others:
        if name in (*peers, "ringtree"):
            raise ValueError(f"--against {name}: there is a peer of that name; call this one otherwise")


def chosen_cases(
    collective: str, sizes: str, dtype: str, op: str, mix: str | None, world: int, buffers: int = 1
) -> list[Case]:
    """All rows to come, in order; a ValueError says which option is at fault.

    `buffers`: how many processes for each rank have buffers for them.
    """
    names = listed(collective, list(COLLECTIVES), "collective")
    if mix:
        require_kind(dtype, op)
        if names != ["all_reduce"]:
            raise ValueError("--mix measures gradients, which are averaged by all_reduce and nothing else")
        cases = cases_of_mix(mix, dtype, op, world)
    else:
        cases = listed_cases(names, sizes, dtype, op, world)
    needed = buffers * bytes_needed(cases)
    if needed > bytes_available():
        need, have = format_size(needed), format_size(bytes_available())
        raise ValueError(f"the buffers of all ranks need {need}B of memory, of which {have}B are free")
    return cases


def chosen_algorithms(text: str, cases: list[Case]) -> dict[str, list[str]]:
    """For each collective of `cases` the algorithms to measure; a point-to-point exchange has only `auto`."""
    chosen = {}
    for name in dict.fromkeys(case.collective.name for case in cases):
        known = ["auto"] if name == "sendrecv" else ["auto", *rt.algorithms(name), rt.ZERO_COPY]
        every = known[1:-1] or known
        asked = every if text == "all" else listed(text, known, f"algorithm of {name}")
        chosen[name] = asked
    return chosen


def require_plotting(path: Path) -> None:
    """Refuse --plot before anything is measured rather than after."""
    try:
        from ringtree_bench.plot import FORMATS
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install matplotlib") from None
    if path.suffix not in FORMATS:
        raise ValueError(f"--plot {path}: the name must end in {', '.join(FORMATS)}")
