"""`ringtree tune --device cuda`: the quickest algorithms for arrays on this machine's GPUs.

What counts is the time of a call alone, from its start to the end of the synchronisation behind it: of calls
in a row the small ones take as long as their launches, whatever the algorithm. Every algorithm is measured in
slots and in packets, and each collective gets a size up to which packets serve.
"""

import math
import secrets
from collections.abc import Mapping
from pathlib import Path

import ringtree as rt
from ringtree import _core
from ringtree.tuning import ON_GPU, read_tuning

from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.gpu.measure import Contender, Stage
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals import OnGpu
from ringtree_bench.gpu.seats import COLLECTIVES_ON_GPU, Seat, with_seats
from ringtree_bench.gpu.variants import PROTOCOLS, Variant, named
from ringtree_bench.rounds import Budget
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size, parse_sizes
from ringtree_bench.start import explained_once
from ringtree_bench.tune import Times, find_rules, flat, right, write_entries


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
    protocols = PROTOCOLS[1:] if seat.has_choice else PROTOCOLS[:1]
    packets: dict[str, int] = {}

    def times(case: Case) -> dict[str, float]:
        names = named(_core.algorithms(case.collective.name), protocols, False)
        measured = stage.measure(case, [Contender(ringtree, name) for name in names], Budget(seconds))
        return {name: timing.alone_median for name, timing in right(case, names, measured).items()}

    def settle(collective: str, found: Times) -> tuple[Times, str]:
        if not seat.has_choice:
            return found, ""
        sizes = {case.chooser_bytes: case.size_bytes for case in cases[collective]}
        packets[collective], counted = settle_packets(found, sizes)
        return counted, f"; packets up to {format_size(packets[collective])}"

    rules = find_rules(screen, cases, times, settle)
    if seat.world.is_first:
        write_entries(path, ON_GPU, seat.size, rules, packets)
    screen.say(f"# written to {path}")


def settle_packets(times: Times, sizes: Mapping[int, int]) -> tuple[int, Times]:
    """Up to how many bytes packets lose least time, and the times of algorithms if they serve so far.

    Each size charges a protocol with the logarithm of the time that its quickest algorithm takes. The answer
    lies midway, on the logarithmic scale, between the last size that packets serve and the next.

    Args:
        times: `times[bytes][variant]`.
        sizes: the bytes of one rank's array, by the bytes that rules count.
    """
    ordered = sorted(times)

    def of(size: int, protocol: str) -> dict[str, float]:
        found = {Variant.parse(name): time for name, time in times[size].items()}
        return {each.algorithm: time for each, time in found.items() if each.protocol in (protocol, "auto")}

    def chosen(served: int) -> list[dict[str, float]]:
        return [of(size, "packets" if i < served else "slots") for i, size in enumerate(ordered)]

    def lost(served: int) -> float:
        return sum(math.log(min(row.values())) for row in chosen(served))

    served = min(range(len(ordered) + 1), key=lost)
    counted = dict(zip(ordered, chosen(served), strict=True))
    if served in (0, len(ordered)):
        return (0 if served == 0 else sizes[ordered[-1]]), counted
    return math.isqrt(sizes[ordered[served - 1]] * sizes[ordered[served]]), counted
