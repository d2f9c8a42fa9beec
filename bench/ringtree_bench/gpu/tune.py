"""`ringtree tune --device cuda`: the quickest algorithms for arrays on this machine's GPUs.

What counts is the time of a call alone, from its start to the end of the synchronisation behind it: of calls
in a row the small ones take as long as their launches, whatever the algorithm.
"""

import secrets
from pathlib import Path

import ringtree as rt
from ringtree import _core
from ringtree.tuning import ON_GPU, read_tuning

from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.gpu.measure import Contender, Stage
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals import OnGpu
from ringtree_bench.gpu.seats import COLLECTIVES_ON_GPU, Seat, with_seats
from ringtree_bench.rounds import Budget
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import parse_sizes
from ringtree_bench.start import explained_once
from ringtree_bench.tune import find_rules, flat, right, write_entries


def tune_gpus(kind: str, ranks: int | None, sizes: str, seconds: float, path: Path) -> None:
    """Measure ranks of this kind, and add what was found to the file at `path`."""

    def body(seat: Seat) -> bool:
        tune_seat(seat, sizes, seconds, path)
        return True

    with_seats(kind, ranks, body)


def tune_seat(seat: Seat, sizes: str, seconds: float, path: Path) -> None:
    """The same from one seat; a collective."""
    with explained_once(seat.world):
        wanted = parse_sizes(sizes)
        read_tuning(path)
    screen = Screen(seat.world.is_first)
    screen.say(f"# {seat.in_words}, {seat.device}")
    cases = {
        name: cases_of_sizes(name, wanted, "float32", "sum", seat.size)
        for name in COLLECTIVES_ON_GPU
        if name in rt.COLLECTIVES and len(_core.algorithms(name)) > 1
    }
    memory = Memory(seat.ranks, flat(cases))
    stage = Stage(seat, memory, seat.world.agree(secrets.randbits(48)))
    ringtree = OnGpu(seat)

    def times(case: Case) -> dict[str, float]:
        names = _core.algorithms(case.collective.name)
        measured = stage.measure(case, [Contender(ringtree, name) for name in names], Budget(seconds))
        return {name: timing.alone_median for name, timing in right(case, names, measured).items()}

    rules = find_rules(screen, cases, times)
    if seat.world.is_first:
        write_entries(path, ON_GPU, seat.size, rules)
    screen.say(f"# written to {path}")
