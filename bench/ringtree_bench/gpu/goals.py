"""What was to be reached on one GPU, held against records of `ringtree gpu --json`.

    python -m ringtree_bench.gpu.goals build/bench/gpu.jsonl

A goal whose rows are in no record is "not measured": nothing is guessed. Only rows without wrong elements
count, and only those of runs in which no RINGTREE_GPU_... has ordered anything.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringtree_bench.gpu.variants import Variant
from ringtree_bench.record import Document
from ringtree_bench.sizes import format_size

_LARGE_BYTES = 256 << 20
_SMALL_BYTES = 64 << 10
_WORLDS = (2, 4, 8)
_IN_SLOTS = ("ring", "double_tree", "two_shot")
_AGAINST_NCCL = ("all_reduce", "reduce_scatter", "all_gather")


@dataclass(frozen=True)
class Verdict:
    """One goal: what was wanted of a ratio, and what there was."""

    what: str
    wanted: str
    ratio: float | None  # None: not measured
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
        if any(name.startswith("RINGTREE_GPU_") for name in record["settings"]):
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

        ratios = [(row["ratios"]["nccl"], row["size"]) for _, row in _rows(records, fits)]
        small = [pair for pair in ratios if pair[1] <= _SMALL_BYTES]
        yield _least(f"{collective} against NCCL, any size", ratios, 1.0)
        yield _least(f"{collective} against NCCL, up to 64 KiB", small, 2.0)


def _least(what: str, ratios: list[tuple[float, int]], wanted: float) -> Verdict:
    if not ratios:
        return _at_least(what, None, wanted)
    ratio, size = min(ratios)
    return _at_least(what, ratio, wanted, f"least at {format_size(size)}")


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
    """All records in these files, of which those called .jsonl have one a line."""
    records: list[Document] = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        records += map(json.loads, text.splitlines()) if path.suffix == ".jsonl" else [json.loads(text)]
    return [record for record in records if record.get("kind") == "gpu"]


def main(arguments: Sequence[str]) -> None:
    """Print every goal, given the names of the records' files."""
    records = read(Path(name) for name in arguments if Path(name).exists())
    devices = ", ".join(sorted({record["device"] for record in records})) or "no record"
    commits = ", ".join(sorted({str(record["commit"]) for record in records})) or "-"
    print(f"# goals on {devices}; ringtree {commits}")
    print(f"#{'':>11}  {'ratio':>6}  {'wanted':>9}")
    for verdict in verdicts(records):
        print(verdict.line())


if __name__ == "__main__":
    main(sys.argv[1:])
