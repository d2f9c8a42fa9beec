"""`ringtree gpu`: from the options to the table and the record."""

import os
import secrets
import sys
from pathlib import Path

import click
import ringtree as rt
from ringtree import _core
from ringtree.errors import RingtreeError
from ringtree.launch import detect

from ringtree_bench.cases import Case
from ringtree_bench.gpu import kernels as compiled
from ringtree_bench.gpu.limits import WARM_UP
from ringtree_bench.gpu.record import Record
from ringtree_bench.gpu.rivals import PEERS, OnGpu
from ringtree_bench.gpu.run import Run
from ringtree_bench.gpu.seats import COLLECTIVES_ON_GPU, KINDS, Seat, with_seats
from ringtree_bench.gpu.variants import PROTOCOLS, named
from ringtree_bench.options import (
    EXIT_WRONG,
    how_to_measure,
    listed,
    listed_cases,
    listed_peers,
    require_folders,
    what_to_measure,
)
from ringtree_bench.rounds import Budget
from ringtree_bench.start import explained_once

_EXAMPLES = """\b
Examples:
  ringtree gpu -n 8                                        virtual ranks, all in one launch
  ringtree gpu --as threads -n 4 --algorithm all --graph
  mpirun -n 2 ringtree gpu --peers nccl,symm_two_shot      ranks are processes
  ringtree gpu --as processes -n 2 --collective all_gather --json gpu.jsonl
  ringtree gpu --kernels -n 8                              no GPU needed
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--as",
    "kind",
    type=click.Choice(KINDS),
    help="What ranks are.  [default: processes if a launcher has started several, else virtual]",
)
@click.option("-n", "--ranks", type=click.IntRange(min=1, max=16), help="How many.  [default: 2]")
@what_to_measure(COLLECTIVES_ON_GPU, "8:256M:4")
@click.option(
    "--protocol",
    default="auto",
    show_default=True,
    metavar="NAME,...|all",
    help=f"How messages travel, a row for each: {', '.join(PROTOCOLS)} (auto: by size).",
)
@click.option("--graph", is_flag=True, help="A row more for each: recorded as a CUDA graph, and replayed.")
@click.option(
    "--peers",
    default="none",
    show_default=True,
    metavar="NAME,...|none",
    help=f"Who is measured beside ringtree, if ranks are processes: {', '.join(PEERS)}.",
)
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    help="Elements of its memory before each array: with 1 it is aligned no better than an element.",
)
@how_to_measure(0.5)
@click.option(
    "--kernels",
    is_flag=True,
    help="Measure nothing: print each kernel's registers, memory, blocks a multiprocessor, and bytes moved.",
)
@click.option("--commit", help="For the record, where the sources are not a git checkout.")
def gpu(
    kind: str | None, ranks: int | None, collective: str, sizes: str, dtype: str, op: str, algorithm: str,
    protocol: str, graph: bool, peers: str, skip: int, seconds: float, iterations: int | None,
    seed: int | None, json_path: Path | None, kernels: bool, commit: str | None,
) -> None:  # fmt: skip
    """Time the collectives of arrays on a GPU, check every result, and print nccl-tests' table.

    The exit status is 1 if any element of any checked result is wrong, or a call of ringtree's does not end.
    """
    if kernels:
        print_kernels(ranks or 2)
        return

    def body(seat: Seat) -> bool:
        with explained_once(seat.world):
            chosen = listed(collective, seat.collectives, f"collective of ranks that are {seat.kind}")
            cases = listed_cases(chosen, sizes, dtype, op, seat.size)
            algorithms = chosen_algorithms(algorithm, protocol, cases, graph)
            if protocol != "auto" and not seat.has_choice:
                raise ValueError(f"--protocol {protocol}: there is one here, {seat.protocol}, for every call")
            names = listed_peers(peers, PEERS)
            require_folders(json_path)
        seed_of_all = seat.world.agree(secrets.randbits(48) if seed is None else seed)
        # Where rounds are counted, times do not matter much.
        warm_up = 0 if iterations else WARM_UP
        run = Run(seat, cases, names, seed_of_all, warm_up=warm_up, skipped=skip)
        record = Record(run, json_path, commit) if seat.world.is_first and json_path else None
        rows = run.measure(
            algorithms, Budget(seconds, iterations), record.write if record else lambda rows: None
        )
        run.measure_limits_again()
        wrong = run.close(rows)
        if record:
            record.write(rows, is_complete=True)
        own = any(name.startswith(OnGpu.name) for name in run.given_up)  # a rival's trouble is the rival's
        return (bool(wrong) or own) and seat.world.is_first

    if with_seats(kind or default_kind(), ranks, body):
        sys.exit(EXIT_WRONG)


def print_kernels(ranks: int) -> None:
    """The table of what was compiled; one line if it cannot be had."""
    path = compiled.library()
    try:
        found = compiled.read(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for line in (f"# {path}", *compiled.table(found, ranks)):
        click.echo(line)


def default_kind() -> str:
    """What this process was started as."""
    try:
        return "processes" if detect(os.environ).world > 1 else "virtual"
    except RingtreeError:
        return "processes"  # who opens the world says what is wrong


def chosen_algorithms(text: str, protocol: str, cases: list[Case], graph: bool) -> dict[str, list[str]]:
    """For each collective of `cases` the algorithms to measure, by each protocol; with `graph` all twice."""
    protocols, chosen = listed(protocol, PROTOCOLS, "protocol"), {}
    for name in dict.fromkeys(case.collective.name for case in cases):
        # With zero_copy, which every array on a GPU serves; a message has no algorithms.
        known = _core.algorithms(name) if name in rt.COLLECTIVES else []
        asked = known if text == "all" and known else listed(text, ["auto", *known], f"algorithm of {name}")
        chosen[name] = named(asked, protocols if name in rt.COLLECTIVES else ["auto"], graph)
    return chosen
