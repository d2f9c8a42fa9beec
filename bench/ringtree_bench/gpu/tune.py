"""`ringtree tune --device cuda`: the quickest algorithms for arrays on this machine's GPUs.

What counts is the time of a call alone, from its start to the end of the synchronisation behind it: of calls
in a row the small ones take as long as their launches, whatever the algorithm.
"""

import secrets
from pathlib import Path

import ringtree as rt
from ringtree import _core
from ringtree.tuning import ON_GPU, Rules, read_tuning

from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.gpu.measure import Contender, Stage
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals import OnGpu
from ringtree_bench.gpu.seats import COLLECTIVES_ON_GPU, Seat, with_seats
from ringtree_bench.measure import Budget
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size, parse_sizes
from ringtree_bench.start import explained_once
from ringtree_bench.tune import describe, rules_from, write_entries


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
        if len(_core.algorithms(name)) > 1
    }
    every_case = [case for row in cases.values() for case in row]
    stage = Stage(seat, Memory(seat.ranks, every_case), seat.world.agree(secrets.randbits(48)))
    rules: dict[str, Rules] = {}
    with screen.progress(len(every_case)):
        for name, row in cases.items():
            times = {}
            for case in row:
                screen.begin(f"{name} {format_size(case.size_bytes)}")
                times[case.chooser_bytes] = _times(seat, stage, case, Budget(seconds))
                screen.done()
            rules[name] = rules_from(times)
            screen.say(f"{name:>16}: {describe(rules[name])}")
    if seat.world.is_first:
        write_entries(path, ON_GPU, seat.size, rules)
    screen.say(f"# written to {path}")


def _times(seat: Seat, stage: Stage, case: Case, budget: Budget) -> dict[str, float]:
    """Seconds of every algorithm that does `case`, and does it right; the same numbers at every seat."""
    names = _core.algorithms(case.collective.name)
    ringtree = OnGpu(seat)
    measured = stage.measure(case, [Contender(ringtree, name) for name in names], budget)
    wrong = [names[index] for index, timing in measured.timings.items() if timing.wrong]
    if wrong:
        raise rt.RingtreeError(f"{case.kind} by {wrong[0]} gives wrong results; nothing was written")
    return {names[index]: timing.alone_median for index, timing in measured.timings.items()}
