"""The table: nccl-tests' columns, ours behind them, two for each peer; as text, line by line."""

from collections.abc import Sequence
from dataclasses import dataclass

from ringtree_bench.cases import Case
from ringtree_bench.rounds import Timing
from ringtree_bench.sizes import format_size

Column = tuple[str, str, int]  # title, unit, width


@dataclass(frozen=True)
class AnyRow:
    """One line: a case done by one algorithm of ringtree, and by each peer in the table's order."""

    case: Case
    algorithm: str
    ours: Timing | None  # None: the algorithm does not do this case
    peers: tuple[Timing | None, ...]

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """How many times as long as ringtree each peer takes."""
        return tuple(peer.median / self.ours.median if peer and self.ours else None for peer in self.peers)

    @property
    def timings(self) -> tuple[Timing, ...]:
        """All that were measured."""
        return tuple(timing for timing in (self.ours, *self.peers) if timing)

    @property
    def wrong(self) -> int:
        """Wrong elements in ringtree's and in all peers' checked calls."""
        return sum(timing.wrong for timing in self.timings)


@dataclass(frozen=True)
class Row(AnyRow):
    """One line of the host's table."""

    ideal_seconds: float


class AnyLayout:
    """The columns of one table: what is measured, ringtree's numbers, the peers'."""

    def __init__(
        self, case: Case, algorithm_width: int, own: Sequence[Column], peers: Sequence[str], peer_width: int
    ) -> None:
        """Fit the table for cases like `case`."""
        # up to #wrong they mean what nccl-tests' mean
        self._columns: list[Column] = [
            ("size", "(B)", 11),
            ("count", "(elements)", 12),
            ("type", "", max(6, len(case.dtype)) + 2),
            ("redop", "", max(5, len(case.op)) + 2),
            ("algorithm", "", algorithm_width),
            *own,
        ]
        for peer in peers:
            self._columns += [(peer, "(us)", peer_width), ("ratio", "", 8)]

    def header(self) -> list[str]:
        """The two lines above the rows."""
        titles = "".join(f"{title:>{width}}" for title, _, width in self._columns)
        units = "".join(f"{unit:>{width}}" for _, unit, width in self._columns)
        return ["#" + titles[1:], "#" + units[1:].rstrip()]

    def _line(self, row: AnyRow, algorithm: str, own: Sequence[str]) -> str:
        case = row.case
        cells = [str(case.size_bytes), str(case.count), case.dtype, case.op, algorithm, *own]
        for peer, ratio in zip(row.peers, row.ratios, strict=True):
            cells.append(format_us(peer.median) + ("!" if peer.wrong else "") if peer else "-")
            cells.append(format_ratio(ratio) if ratio else "-")
        return "".join(f"{cell:>{width}}" for cell, (_, _, width) in zip(cells, self._columns, strict=True))


def measured_cells(case: Case, ours: Timing) -> list[str]:
    """Time, algbw, busbw, #wrong, spread."""
    return [
        format_us(ours.median),
        f"{case.algorithm_bandwidth(ours.median):.2f}",
        f"{case.bus_bandwidth(ours.median):.2f}",
        str(ours.wrong),
        f"{100 * ours.spread:.0f}",
    ]


class Layout(AnyLayout):
    """The columns of the host's table, as wide as its types and algorithms need."""

    def __init__(self, case: Case, algorithms: Sequence[str], peers: Sequence[str]) -> None:
        """Fit the table for cases like `case`."""
        own = [
            ("time", "(us)", 9),
            ("algbw", "(GB/s)", 8),
            ("busbw", "(GB/s)", 8),
            ("#wrong", "", 8),
            ("spread", "(%)", 8),
            ("ideal", "(us)", 9),
        ]
        super().__init__(case, max(map(len, ["algorithm", *algorithms])) + 2, own, peers, 10)

    def line(self, row: Row) -> str:
        """One row."""
        cells = measured_cells(row.case, row.ours) if row.ours else ["-"] * 5
        return self._line(row, row.algorithm, [*cells, format_us(row.ideal_seconds)])


def describe(case: Case) -> str:
    """What a case of a mix stands for."""
    biggest = format_size(max(case.parts) * case.size_bytes // case.count)
    return f"{case.label}: {case.count} gradients in {len(case.parts)} buckets of up to {biggest}"


def format_us(seconds: float) -> str:
    """Microseconds with nccl-tests' number of decimals; `-` for nothing to do."""
    us = seconds * 1e6
    if us == 0:
        return "-"
    if us < 0.005:
        return "<0.01"
    return f"{us:.0f}" if us >= 10_000 else f"{us:.1f}" if us >= 100 else f"{us:.2f}"


def format_ratio(ratio: float) -> str:
    """`0.97x`, `12.3x`, `345x`."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"
