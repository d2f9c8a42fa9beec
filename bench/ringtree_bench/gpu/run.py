"""One run of the suite on GPUs: who takes part, what stands above the table, and its rows as they come."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import ringtree as rt
from ringtree import _core
from ringtree.tuning import tuning_path

from ringtree_bench import machine
from ringtree_bench.cases import Case
from ringtree_bench.gpu.limits import measure_limits
from ringtree_bench.gpu.measure import Contender, GpuTiming, Stage
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals import IN_GRAPH, OnGpu, Rival, open_peers
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.gpu.table import Layout, Row
from ringtree_bench.measure import Budget
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size


class Run:
    """What stays the same from the first row to the last. Every method is a collective of all seats."""

    def __init__(self, seat: Seat, cases: list[Case], peer_names: Sequence[str], seed: int) -> None:
        """Let the peers join, measure the limits, print what stands above the table."""
        self.seat, self.cases, self.seed = seat, cases, seed
        self.screen = Screen(seat.world.is_first)
        self.peers: list[Rival]
        self.peers, self.notes = open_peers(seat, list(peer_names))
        self.limits = measure_limits(seat, cases)
        self._ringtree = OnGpu(seat)
        self._stage = Stage(seat, Memory(seat.ranks, cases), seed)
        for text in self._preamble():
            self.screen.say(f"# {text}")

    def _preamble(self) -> Iterator[str]:
        yield f"ringtree {rt.__version__}, {self.seat.in_words}, {self.seat.device}, {machine.in_words()}"
        if self.peers:
            yield "beside " + ", ".join(f"{peer.name} ({peer.version})" for peer in self.peers)
        if tuning_path().exists():
            yield f"auto follows {tuning_path()}"
        yield f"times are medians of the slowest rank; seed {self.seed}"
        yield from self.limits.lines()
        yield from self.notes

    def measure(self, algorithms: dict[str, list[str]], budget: Budget) -> list[Row]:
        """Measure every case with these algorithms of its collective, and print the rows as they come."""
        rows: list[Row] = []
        with self.screen.progress(len(self.cases)):
            for name, cases in groupby(self.cases, key=lambda case: case.collective.name):
                together = list(cases)
                peers = [peer.name for peer in self.peers]
                layout = Layout(together[0], algorithms[name], peers, self.limits)
                for text in ("#", f"# {name}, {self.seat.in_words}", *layout.header()):
                    self.screen.say(text)
                for case in together:
                    self.screen.begin(f"{name} {format_size(case.size_bytes)}")
                    for row in self._measure_case(case, algorithms[name], budget):
                        self.screen.say(layout.line(row))
                        rows.append(row)
                    self.screen.done()
        return rows

    def _measure_case(self, case: Case, algorithms: list[str], budget: Budget) -> list[Row]:
        contenders = [Contender(self._ringtree, algorithm) for algorithm in algorithms]
        contenders += [Contender(peer) for peer in self.peers]
        measured = self._stage.measure(case, contenders, budget)
        for index, reason in measured.refused.items():
            self._note(f"{contenders[index].name} does not do {case.kind}: {reason}")
        for index, timing in measured.timings.items():
            if timing.wrong:
                what = f"{case.kind}, {case.size_bytes} bytes"
                self._note(f"{contenders[index].name} has {timing.wrong} wrong elements in {what}")
        timings = [measured.timings.get(index) for index in range(len(contenders))]
        peers = tuple(timings[len(algorithms) :])
        return [
            self._row(case, algorithm, timing, peers)
            for algorithm, timing in zip(algorithms, timings, strict=False)
        ]

    def _row(
        self, case: Case, algorithm: str, ours: GpuTiming | None, peers: tuple[GpuTiming | None, ...]
    ) -> Row:
        collective = case.collective.name
        taken = algorithm.removesuffix(IN_GRAPH)
        if taken == "auto":
            taken = self.seat.chosen(collective, case.chooser_bytes)
        declared = _core.cost(collective, taken, case.world, case.chooser_bytes).moved_bytes
        return Row(case, algorithm, taken, ours, peers, case.world * declared)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.screen.say(f"# {text}")

    def close(self, rows: list[Row]) -> int:
        """Let the peers go, print the verdict; the number of wrong elements."""
        for peer in self.peers:
            peer.close()
        timings = {id(timing): timing for row in rows for timing in row.timings}  # peers stand in many rows
        wrong = sum(timing.wrong for timing in timings.values())
        self.screen.say(f"# {wrong} wrong elements" + (": do not trust these results" if wrong else ""))
        return wrong
