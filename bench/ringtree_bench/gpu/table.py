"""The table on GPUs: nccl-tests' columns, ours behind them, two for each peer."""

from collections.abc import Sequence
from dataclasses import dataclass

from ringtree_bench.cases import Case
from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.table import format_ratio, format_us


@dataclass(frozen=True)
class Row:
    """One line: a case done by one algorithm of ringtree, and by each peer in the table's order."""

    case: Case
    algorithm: str  # as it was asked for
    taken: str  # the one that ran
    ours: GpuTiming | None  # None: the algorithm does not do this case
    peers: tuple[GpuTiming | None, ...]
    declared_bytes: float  # read and written by all ranks, by what the algorithm says of itself

    @property
    def ratios(self) -> tuple[float | None, ...]:
        """How many times as long as ringtree each peer takes."""
        return tuple(peer.median / self.ours.median if peer and self.ours else None for peer in self.peers)

    @property
    def timings(self) -> tuple[GpuTiming, ...]:
        """All that were measured."""
        return tuple(timing for timing in (self.ours, *self.peers) if timing)

    def least_share(self, limits: Limits) -> float | None:
        """Of the rate of copies: counting the bytes that any algorithm must read and write."""
        least = self.case.least_traffic_bytes
        return limits.copy_share(least, self.ours.median) if self.ours and least else None

    def moved_share(self, limits: Limits) -> float | None:
        """Of the rate of copies: counting the bytes that this algorithm reads and writes."""
        declared = self.declared_bytes
        return limits.copy_share(declared, self.ours.median) if self.ours and declared else None


class Layout:
    """The columns of one table."""

    def __init__(self, case: Case, algorithms: Sequence[str], peers: Sequence[str], limits: Limits) -> None:
        """Fit the table for cases like `case`."""
        self._limits = limits
        names = ["algorithm", *algorithms, *(f"auto: {name}" for name in algorithms)]
        # title, unit, width: up to #wrong they mean what nccl-tests' mean
        self._columns = [
            ("size", "(B)", 11),
            ("count", "(elements)", 12),
            ("type", "", max(6, len(case.dtype)) + 2),
            ("redop", "", max(5, len(case.op)) + 2),
            ("algorithm", "", max(24, *map(len, names)) + 2),
            ("time", "(us)", 10),
            ("algbw", "(GB/s)", 9),
            ("busbw", "(GB/s)", 9),
            ("#wrong", "", 8),
            ("spread", "(%)", 8),
            ("gpu", "(us)", 10),
            ("alone", "(us)", 10),
            ("least", "(%copy)", 9),
            ("moved", "(%copy)", 9),
        ]
        for peer in peers:
            self._columns += [(peer, "(us)", 11), ("ratio", "", 8)]

    def header(self) -> list[str]:
        """The two lines above the rows."""
        titles = "".join(f"{title:>{width}}" for title, _, width in self._columns)
        units = "".join(f"{unit:>{width}}" for _, unit, width in self._columns)
        return ["#" + titles[1:], "#" + units[1:].rstrip()]

    def line(self, row: Row) -> str:
        """One row."""
        case, ours = row.case, row.ours
        algorithm = row.algorithm.replace("auto", f"auto: {row.taken}", 1)
        cells = [str(case.size_bytes), str(case.count), case.dtype, case.op, algorithm]
        if ours:
            cells += [
                format_us(ours.median),
                f"{case.algorithm_bandwidth(ours.median):.2f}",
                f"{case.bus_bandwidth(ours.median):.2f}",
                str(ours.wrong),
                f"{100 * ours.spread:.0f}",
                format_us(ours.gpu_median),
                format_us(ours.alone_median),
                _percent(row.least_share(self._limits)),
                _percent(row.moved_share(self._limits)),
            ]
        else:
            cells += ["-"] * 9
        for peer, ratio in zip(row.peers, row.ratios, strict=True):
            cells.append(format_us(peer.median) + ("!" if peer.wrong else "") if peer else "-")
            cells.append(format_ratio(ratio) if ratio else "-")
        return "".join(f"{cell:>{width}}" for cell, (_, _, width) in zip(cells, self._columns, strict=True))


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
