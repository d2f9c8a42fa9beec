"""One run of the suite: who takes part, what stands above the table, and its rows as they are measured."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

import ringtree as rt
from ringtree.tuning import tuning_path

from ringtree_bench import machine
from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case
from ringtree_bench.limits import measure_limits
from ringtree_bench.measure import Budget, Contender, Stage
from ringtree_bench.rivals import Environment, Group, Ringtree, Rival, open_groups, open_peers
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size
from ringtree_bench.table import Layout, Row, describe
from ringtree_bench.worker import pages
from ringtree_bench.world import World

_BUSY_LOAD = 0.7  # of the last minute: a run that has just ended leaves less after a short pause


class Run:
    """What stays the same from the first row to the last. Every method is a collective."""

    def __init__(
        self,
        world: World,
        cases: list[Case],
        peer_names: list[str],
        seed: int,
        environments: Sequence[Environment] = (),
        zero_copy: bool = False,
    ) -> None:
        """Let the peers join, measure the memory, print what stands above the table.

        `zero_copy`: the arrays come from comm.empty().
        """
        self.world, self.cases, self.seed, self.zero_copy = world, cases, seed, zero_copy
        self.load = machine.load()
        self.screen = Screen(world.is_first)
        joined, self.notes = open_peers(world, peer_names)
        started, problems = open_groups(world, list(environments), cases)
        self.peers: list[Rival | Group] = [*joined, *started]
        self.notes += problems
        self.limits = measure_limits(world, cases)
        self._ringtree = Ringtree(world.comm)
        allocate = partial(world.comm.empty, dtype="uint8") if zero_copy else pages
        self._stage = Stage(world, Buffers(cases, allocate), seed)
        for text in self._preamble():
            self.screen.say(f"# {text}")

    def _preamble(self) -> Iterator[str]:
        ranks = f"{self.world.size} rank{'s' if self.world.size > 1 else ''} over {self.world.comm.transport}"
        yield f"ringtree {rt.__version__}, {ranks}, {machine.in_words()}"
        if self.peers:
            yield "beside " + ", ".join(f"{peer.name} ({peer.version})" for peer in self.peers)
        if self.load > _BUSY_LOAD:
            yield f"this machine is busy (load {self.load:.1f}): times are noisy, as the spread shows"
        if tuning_path().exists():
            yield f"auto follows {tuning_path()}"
        if self.zero_copy:
            yield "all arrays come from comm.empty()"
        yield f"times are medians of the slowest rank; seed {self.seed}"
        yield from self.limits.lines()
        yield from self.notes

    def measure(self, algorithms: dict[str, list[str]], budget: Budget) -> list[Row]:
        """Measure every case with these algorithms of its collective, and print the rows as they come."""
        rows: list[Row] = []
        with self.screen.progress(len(self.cases)):
            for name, cases in groupby(self.cases, key=lambda case: case.collective.name):
                together = list(cases)
                layout = Layout(together[0], algorithms[name], [peer.name for peer in self.peers])
                for text in ("#", f"# {name}", *layout.header()):
                    self.screen.say(text)
                for case in together:
                    self.screen.begin(f"{name} {case.label or format_size(case.size_bytes)}")
                    if case.label:
                        self.screen.say(f"# {describe(case)}")
                    for row in self._measure_case(case, algorithms[name], budget):
                        self.screen.say(layout.line(row), row)
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
        ideal = self.limits.ideal_seconds(case)
        peers = tuple(timings[len(algorithms) :])
        return [Row(case, *ours, peers, ideal) for ours in zip(algorithms, timings, strict=False)]

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
