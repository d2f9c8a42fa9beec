"""`ringtree tune`: measures every algorithm on this machine and writes down which to take up to which size.

The file is what the library reads when a communicator opens. A rule counts bytes as the chooser does: those
of the whole array, and for all_to_all those of all ranks together.
"""

import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import click
import ringtree as rt
from ringtree.tuning import VERSION, Entry, Rules, read_tuning, tuning_path

from ringtree_bench import machine
from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.measure import Contender, Stage
from ringtree_bench.rivals import Ringtree
from ringtree_bench.rounds import AnyTiming, Budget, Measurement
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size, parse_sizes
from ringtree_bench.start import explained_once, opened_world
from ringtree_bench.world import World

_TIE = 1.03  # slower than the quickest by less than this counts as just as good
_CHANGE_COST = math.log(_TIE)  # what a change of algorithm must gain, over all sizes, to be worth a rule


_EXAMPLES = """\b
Examples:
  mpirun -n 2 ringtree tune
  ringtree tune -n 4              without mpirun
  ringtree tune -n 4 --threads    for rt.run_local
  ringtree tune -n 4 --threads --device cuda    for arrays on a GPU
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--sizes",
    default="64:64M:4",
    show_default=True,
    metavar="FIRST:LAST[:FACTOR]",
    help="Bytes of the whole array.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, min_open=True),
    default=0.5,
    show_default=True,
    help="Time for one size of one collective, all algorithms together.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the arrays are; cuda: on GPUs.",
)
@click.option("--threads", is_flag=True, help="Tune ranks that are threads of one process (run_local).")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, instead of the one that the library reads.",
)
@click.option("-n", "--ranks", type=click.IntRange(min=1), help="Start this many ranks here, without mpirun.")
def tune(
    sizes: str, seconds: float, device: str, threads: bool, output: Path | None, ranks: int | None
) -> None:
    """Find the quickest algorithm of every collective by size, for this machine and this number of ranks.

    Results for other transports, GPUs among them, and other numbers of ranks stay in the file.
    """
    path = output or tuning_path()
    if device == "cuda":
        from ringtree_bench.gpu.tune import tune_gpus

        tune_gpus("threads" if threads else "processes", ranks, sizes, seconds, path)
        return
    if threads:
        count = ranks or max(2, os.cpu_count() or 2)

        def tune_threads(comm: rt.Communicator) -> None:
            tune_world(World(comm), sizes, seconds, path)

        rt.run_local(count, tune_threads)
        return
    with opened_world(ranks) as world:
        tune_world(world, sizes, seconds, path)


def tune_world(world: World, sizes: str, seconds: float, path: Path) -> None:
    """Measure in `world` and add what was found to the file at `path`; a collective."""
    with explained_once(world):
        wanted = parse_sizes(sizes)
        read_tuning(path)
    screen = Screen(world.is_first)
    screen.say(f"# {world.size} ranks over {world.comm.transport}, {machine.in_words()}")
    cases = {
        name: cases_of_sizes(name, wanted, "float32", "sum", world.size)
        for name in COLLECTIVES
        if name in rt.COLLECTIVES and len(rt.algorithms(name)) > 1
    }
    stage = Stage(world, Buffers(flat(cases)), world.agree(secrets.randbits(48)))
    ringtree = Ringtree(world.comm)

    def times(case: Case) -> dict[str, float]:
        names = rt.algorithms(case.collective.name)
        measured = stage.measure(case, [Contender(ringtree, name) for name in names], Budget(seconds))
        return {name: timing.median for name, timing in right(case, names, measured).items()}

    rules = find_rules(screen, cases, times)
    if world.is_first:
        write_entries(path, world.comm.transport, world.size, rules)
    screen.say(f"# written to {path}")


def flat(cases: Mapping[str, list[Case]]) -> list[Case]:
    """Those of all collectives."""
    return [case for row in cases.values() for case in row]


Times = Mapping[int, Mapping[str, float]]  # by the bytes that the chooser counts, and algorithm: seconds


def find_rules(
    screen: Screen,
    cases: Mapping[str, list[Case]],
    times: Callable[[Case], Mapping[str, float]],
    settle: Callable[[str, Times], tuple[Times, str]] = lambda _, found: (found, ""),
) -> dict[str, Rules]:
    """Rules for each collective from the `times` of its cases' algorithms, on the screen as they come.

    A collective, as `times` is, which gives the same numbers on every rank. `settle` says which of a
    collective's times count, and why.
    """
    rules: dict[str, Rules] = {}
    with screen.progress(len(flat(cases))):
        for name, row in cases.items():
            found = {}
            for case in row:
                screen.begin(f"{name} {format_size(case.size_bytes)}")
                found[case.chooser_bytes] = times(case)
                screen.done()
            counted, why = settle(name, found)
            rules[name] = rules_from(counted)
            screen.say(f"{name:>16}: {describe(rules[name])}{why}")
    return rules


def right(case: Case, names: list[str], measured: Measurement[AnyTiming]) -> dict[str, AnyTiming]:
    """The timings of the algorithms that do `case`, all of which must do it right."""
    wrong = [names[index] for index, timing in measured.timings.items() if timing.wrong]
    if wrong:
        raise rt.RingtreeError(f"{case.kind} by {wrong[0]} gives wrong results; nothing was written")
    return {names[index]: timing for index, timing in measured.timings.items()}


def rules_from(times: Times) -> Rules:
    """The few rules that lose least time, given `times[bytes][algorithm]`.

    Each size charges an algorithm with the logarithm of how much slower than the quickest it is, nothing if
    that is within 3 %; each change of algorithm from one size to the next costs 3 %. The cheapest path
    through all sizes (Viterbi, 1967) is the answer: one noisy size makes no rule, a real crossover does. A
    rule ends midway, on the logarithmic scale, between the last size that it holds for and the next.
    """
    sizes = sorted(times)
    names = sorted({name for row in times.values() for name in row})

    def charge(size: int, name: str) -> float:
        if name not in times[size]:
            return math.inf
        slower = times[size][name] / min(times[size].values())
        return 0.0 if slower < _TIE else math.log(slower)

    best = {name: (charge(sizes[0], name), [name]) for name in names}
    for size in sizes[1:]:
        cheapest = min(best.values())
        best = {
            name: min(
                (cost + charge(size, name), [*path, name])
                for cost, path in (best[name], (cheapest[0] + _CHANGE_COST, cheapest[1]))
            )
            for name in names
        }
    path = min(best.values())[1]
    rules: Rules = []
    for index, (size, name) in enumerate(zip(sizes, path, strict=True)):
        last = index + 1 == len(sizes)
        if last or path[index + 1] != name:
            rules.append((size if last else math.isqrt(size * sizes[index + 1]), name))
    return rules


def describe(rules: Rules) -> str:
    """`one_shot up to 32K, ring`."""
    parts = [f"{name} up to {format_size(limit)}" for limit, name in rules[:-1]]
    return ", ".join([*parts, rules[-1][1]])


def write_entries(
    path: Path,
    transport: str,
    world: int,
    rules: Mapping[str, Rules],
    packets: Mapping[str, int] | None = None,
) -> None:
    """Put `rules` into the file at `path` in place of those for the same transport and world size.

    `packets`: up to how many bytes calls go in packets, on GPUs.

    The file is replaced as a whole, so that a program that starts meanwhile reads the old or the new one.
    """
    entries = [
        entry
        for entry in read_tuning(path)
        if (entry.transport, entry.world) != (transport, world) or entry.collective not in rules
    ]
    entries += [
        Entry(name, transport, world, found, (packets or {}).get(name)) for name, found in rules.items()
    ]
    lines = ",\n".join(json.dumps(asdict(entry)) for entry in entries)
    head = f'{{"version": {VERSION}, "machine": {json.dumps(machine.cpu_model())}, "entries": [\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.new")
    unfinished.write_text(f"{head}{lines}\n]}}\n", encoding="utf-8")
    unfinished.replace(path)
