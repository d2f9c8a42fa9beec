"""What was to be reached on one GPU, held against records of `ringtree gpu --json`.

    python -m ringtree_bench.gpu.goals build/bench/gpu.jsonl

A goal whose rows are in no record is "not measured": nothing is guessed. So is one that speaks of any size,
unless some world has rows from the first size to the last without a gap, and all of them are good enough; a
single row that is not suffices to miss it. Only rows without wrong elements count, and only those of runs on
aligned arrays in which no RINGTREE_GPU_... has ordered anything.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ringtree_bench.gpu.variants import Variant
from ringtree_bench.record import Document
from ringtree_bench.sizes import format_size

_LARGE_BYTES = 256 << 20
_SMALL_BYTES = 64 << 10
_FIRST_BYTES, _LAST_BYTES = 8, 1 << 30  # "any size"
_MOST_STEP = 4  # from one size to the next, else there is a gap
_ROUNDED = 1.01  # sizes are rounded down to whole elements and equal shares
_WORLDS = (2, 4, 8)
_IN_SLOTS = ("ring", "double_tree", "two_shot")
_AGAINST_NCCL = ("all_reduce", "reduce_scatter", "all_gather")


@dataclass(frozen=True)
class Verdict:
    """One goal: what was wanted of a ratio, and what there was."""

    what: str
    wanted: str
    ratio: float | None  # None: not measured, or not all that it takes
    reached: bool
    detail: str = ""

    @property
    def word(self) -> str:
        """`reached`, `missed` or `not measured`."""
        return "not measured" if self.ratio is None else "reached" if self.reached else "missed"

    def line(self) -> str:
        """One line of the summary."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        detail = f"  ({self.detail})" if self.detail else ""
        return f"{self.word:>12}  {ratio:>6}  {self.wanted:>9}  {self.what}{detail}"


def verdicts(records: Sequence[Document]) -> list[Verdict]:
    """Every goal."""
    return [*_bandwidth(records), *_against_nccl(records), *_latency(records)]


def _rows(
    records: Iterable[Document], fits: Callable[[Document, Document], bool]
) -> Iterator[tuple[Document, Document]]:
    """Those rows, each with its record, that have a time and no wrong element, with the usual settings."""
    for record in records:
        if record.get("skipped") or any(name.startswith("RINGTREE_GPU_") for name in record["settings"]):
            continue
        for row in record["rows"]:
            if row["ringtree"] and not row["ringtree"]["wrong"] and fits(record, row):
                yield record, row


def _bandwidth(records: Sequence[Document]) -> Iterator[Verdict]:
    """A large all_reduce moves at least 80 % of what copies move.

    The best one counting the bytes that must at least be read and written, whatever the algorithm; those that
    go through slots counting the bytes that each of them must.
    """
    for world in _WORLDS:
        what = f"all_reduce of 256 MiB by {world} threads on one GPU"
        least = _shares(records, world, "least_share_of_copy")
        ranked = sorted(least.items(), key=lambda item: -item[1])
        detail = ", ".join(f"{name} {share:.2f}" for name, share in ranked)
        yield _at_least(f"{what}, share of the copies' rate", max(least.values(), default=None), 0.8, detail)
        own = _shares(records, world, "declared_share_of_copy")
        for name in _IN_SLOTS:
            yield _at_least(f"{what}, {name} by its own bytes", own.get(name), 0.8)


def _shares(records: Sequence[Document], world: int, share: str) -> dict[str, float]:
    """The best of each algorithm."""

    def fits(record: Document, row: Document) -> bool:
        return (
            (record["ranks"], record["world"]) == ("threads", world)
            and (row["collective"], row["size"]) == ("all_reduce", _LARGE_BYTES)
            and row[share] is not None
        )

    best: dict[str, float] = {}
    for _, row in _rows(records, fits):
        best[row["taken"]] = max(best.get(row["taken"], 0.0), row[share])
    return best


def _against_nccl(records: Sequence[Document]) -> Iterator[Verdict]:
    """Not slower at any size, and at least twice as fast up to 64 KiB, with several ranks on the one GPU."""
    for collective in _AGAINST_NCCL:

        def fits(record: Document, row: Document, collective: str = collective) -> bool:
            return (
                record["ranks_sharing_one_gpu"] > 1
                and row["collective"] == collective
                and row["algorithm"] == "auto"
                and row["ratios"].get("nccl") is not None
                and not row["peers"]["nccl"]["wrong"]
            )

        ratios = [
            Ratio(row["ratios"]["nccl"], row["size"], record["world"]) for record, row in _rows(records, fits)
        ]
        divided = collective != "all_reduce"
        yield _at_any_size(f"{collective} against NCCL, any size", ratios, _LAST_BYTES, divided, 1.0)
        yield _at_any_size(f"{collective} against NCCL, up to 64 KiB", ratios, _SMALL_BYTES, divided, 2.0)


class Ratio(NamedTuple):
    """How many times as long a rival takes, in one row."""

    ratio: float
    size: int
    world: int


def _at_any_size(what: str, every: list[Ratio], last: int, divided: bool, wanted: float) -> Verdict:
    """From 8 B to `last`; `divided`: the smallest array has an element for each rank."""
    ratios = [each for each in every if each.size <= last]
    gaps = {}
    for world in sorted({each.world for each in ratios}):
        first = max(_FIRST_BYTES, 4 * world) if divided else _FIRST_BYTES
        gaps[world] = _gaps([each.size for each in ratios if each.world == world], first, last)
    lacks = [f"{world} ranks lack {', '.join(missing)}" for world, missing in gaps.items() if missing]
    least = min(ratios, default=None)
    whole = [world for world, missing in gaps.items() if not missing]
    if least is not None and least.ratio < wanted:
        words = [f"{format_size(least.size)} by {least.world} ranks", *lacks]
        return _at_least(what, least.ratio, wanted, "; ".join(words))
    if least is None or not whole:
        return _at_least(what, None, wanted, "; ".join(lacks))
    least = min(each for each in ratios if each.world in whole)
    words = [
        f"by {' and '.join(map(str, whole))} ranks",
        f"least at {format_size(least.size)} by {least.world}",
    ]
    return _at_least(what, least.ratio, wanted, "; ".join([*words, *lacks]))


def _gaps(sizes: Iterable[int], first: int, last: int) -> list[str]:
    """What lies between the sizes, where neighbours are too far apart: `8 to 512`."""
    known = sorted(sizes)
    ends = [*([first] if known[0] > first * _ROUNDED else []), *known]
    if known[-1] * _ROUNDED < last:
        ends.append(last)
    missing = [
        (before, after)
        for before, after in pairwise(ends)
        if after > before * _MOST_STEP * _ROUNDED or before not in known or after not in known
    ]
    return [f"{format_size(before)} to {format_size(after)}" for before, after in missing]


def _at_least(what: str, ratio: float | None, wanted: float, detail: str = "") -> Verdict:
    return Verdict(what, f">= {wanted:.2f}", ratio, ratio is not None and ratio >= wanted, detail)


def _latency(records: Sequence[Document]) -> Iterator[Verdict]:
    """8 B in a graph: at most twice an empty kernel, launch to end, and a flag's round trip."""
    for kind, words in (("virtual", "in one launch"), ("threads", "as threads")):

        def fits(record: Document, row: Document, kind: str = kind) -> bool:
            return (
                record["ranks"] == kind
                and (row["collective"], row["size"]) == ("all_reduce", 8)
                and Variant.parse(row["algorithm"]) == Variant("auto", in_graph=True)
            )

        for world in _WORLDS:
            ratios = [
                row["ringtree"]["alone_median"] / record["limits"]["floor"]
                for record, row in _rows(records, fits)
                if record["world"] == world
            ]
            ratio = min(ratios, default=None)
            what = f"8 B all_reduce in a graph, {world} ranks {words}, times the floor"
            yield Verdict(what, "<= 2.00", ratio, ratio is not None and ratio <= 2)


def read(paths: Iterable[Path]) -> list[Document]:
    """All records in these files, of which those called .jsonl have one a line; what is cut off is said."""
    records: list[Document] = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for record in text.splitlines() if path.suffix == ".jsonl" else [text]:
            try:
                records.append(json.loads(record))
            except ValueError:
                print(f"# {path}: a record is cut off, and is left out")
    return [record for record in records if record.get("kind") == "gpu"]


def main(arguments: Sequence[str]) -> None:
    """Print every goal, given the names of the records' files."""
    records = read(Path(name) for name in arguments if Path(name).exists())
    devices = ", ".join(sorted({record["device"] for record in records})) or "no record"
    commits = ", ".join(sorted({str(record["commit"]) for record in records})) or "-"
    print(f"# goals on {devices}; ringtree {commits}")
    ended_early = sum(not record.get("complete", True) for record in records)
    if ended_early:
        print(f"# {ended_early} of {len(records)} runs ended early: what they had measured counts")
    print(f"#{'':>11}  {'ratio':>6}  {'wanted':>9}")
    for verdict in verdicts(records):
        print(verdict.line())


if __name__ == "__main__":
    main(sys.argv[1:])
