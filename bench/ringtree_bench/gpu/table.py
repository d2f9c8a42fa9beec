"""The table on GPUs: nccl-tests' columns, ours behind them, two for each peer."""

from collections.abc import Sequence
from dataclasses import dataclass

import ringtree as rt
from ringtree import _core

from ringtree_bench.cases import Case
from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.table import AnyLayout, AnyRow, format_us, measured_cells


@dataclass(frozen=True)
class Row(AnyRow):
    """One line of the table."""

    ours: GpuTiming | None
    peers: tuple[GpuTiming | None, ...]
    taken: str  # the algorithm that ran, where `auto` was asked for
    declared_bytes: float  # read and written by all ranks, by what the algorithm says of itself

    def least_share(self, limits: Limits) -> float | None:
        """Of the rate of copies: counting the bytes that any algorithm must read and write."""
        least = self.case.least_traffic_bytes
        return limits.copy_share(least, self.ours.median) if self.ours and least else None

    def moved_share(self, limits: Limits) -> float | None:
        """Of the rate of copies: counting the bytes that this algorithm reads and writes."""
        declared = self.declared_bytes
        return limits.copy_share(declared, self.ours.median) if self.ours and declared else None


class Layout(AnyLayout):
    """The columns of one table."""

    def __init__(self, case: Case, algorithms: Sequence[str], peers: Sequence[str], limits: Limits) -> None:
        """Fit the table for cases like `case`."""
        self._limits = limits
        own = [
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
        taken = (
            max(_core.algorithms(case.collective.name), key=len)
            if case.collective.name in rt.COLLECTIVES
            else ""
        )
        names = [name.replace("auto", f"auto: {taken}", 1) for name in algorithms]
        super().__init__(case, max(24, *map(len, names)) + 2, own, peers, 11)

    def line(self, row: Row) -> str:
        """One row."""
        ours = row.ours
        algorithm = row.algorithm.replace("auto", f"auto: {row.taken}", 1)
        if ours is None:
            return self._line(row, algorithm, ["-"] * 9)
        return self._line(
            row,
            algorithm,
            [
                *measured_cells(row.case, ours),
                format_us(ours.gpu_median),
                format_us(ours.alone_median),
                _percent(row.least_share(self._limits)),
                _percent(row.moved_share(self._limits)),
            ],
        )


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
