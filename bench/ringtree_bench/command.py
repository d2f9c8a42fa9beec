"""`ringtree bench`: from the options to the table, the record and the plot."""

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import ringtree as rt

from ringtree_bench import dtypes, record
from ringtree_bench.buffers import bytes_available, bytes_needed
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.check import require_op
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.measure import Budget
from ringtree_bench.mixes import MIXES, cases_of_mix
from ringtree_bench.rivals import PEERS
from ringtree_bench.rivals.environment import FOLDER_VARIABLE, parse_against
from ringtree_bench.run import Run
from ringtree_bench.sizes import format_size, parse_sizes
from ringtree_bench.start import explained_once, opened_world

_EXIT_WRONG = 1


_EXAMPLES = """\b
Examples:
  mpirun -n 2 ringtree bench
  mpirun -n 4 ringtree bench --collective all --sizes 1K:16M:4 --json run.json --plot run.png
  mpirun -n 2 ringtree bench --algorithm all --peers mpi
  ringtree bench -n 2 --peers gloo
  ringtree bench -n 2 --against impi-rt=~/venvs/impi
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--collective",
    default="all_reduce",
    show_default=True,
    metavar="NAME,...|all",
    help=f"What to measure: {', '.join(COLLECTIVES)}.",
)
@click.option(
    "--sizes",
    default="8:256M",
    show_default=True,
    metavar="FIRST:LAST[:FACTOR]",
    help="Bytes of the whole array, as nccl-tests counts them; factor 2 if not given. A list: 8,64K.",
)
@click.option(
    "--dtype",
    type=click.Choice(rt.DTYPES),
    default="float32",
    show_default=True,
    help="Type of the elements.",
)
@click.option(
    "--op", type=click.Choice(rt.OPS), default="sum", show_default=True, help="What a reduction does."
)
@click.option(
    "--algorithm",
    default="auto",
    show_default=True,
    metavar="auto|all|NAME,...",
    help="ringtree's algorithms, a row for each; peers are measured once.",
)
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
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, min_open=True),
    default=2.0,
    show_default=True,
    help="Time for one size, all contenders together; at least 5 rounds are run.",
)
@click.option("--iterations", type=click.IntRange(min=1), help="Rounds for one size, instead of a time.")
@click.option("--seed", type=click.IntRange(min=0), help="Repeat the inputs of a run that printed this seed.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all that was measured; .jsonl appends a line.",
)
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
            peer_names = listed(peers, list(PEERS), "peer") if peers != "none" else []
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
                record.write(json_path, document)
            if plot_path:
                from ringtree_bench.plot import draw

                draw(document, plot_path)
    if wrong and world.is_first:  # the others end well, see `explained_once`
        sys.exit(_EXIT_WRONG)


def listed(text: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated list; `all` is all that are known."""
    names = list(known) if text == "all" else list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return names


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
    dtypes.numpy_dtype(dtype)
    require_op(op, dtype)
    names = listed(collective, list(COLLECTIVES), "collective")
    if mix and names != ["all_reduce"]:
        raise ValueError("--mix measures gradients, which are averaged by all_reduce and nothing else")
    if mix:
        cases = cases_of_mix(mix, dtype, op, world)
    else:
        wanted = parse_sizes(sizes)
        cases = [case for name in names for case in cases_of_sizes(name, wanted, dtype, op, world)]
    if not cases:
        raise ValueError(f"--sizes {sizes}: not one holds an element of {dtype} for each of {world} ranks")
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


def require_folders(*paths: Path | None) -> None:
    """Make the folders of all that is to be written, or say now that it cannot be."""
    for path in filter(None, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error}") from None
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"{path} cannot be written: no permission")
