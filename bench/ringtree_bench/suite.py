"""A run of the suite, on the host or on GPUs: what stands above the table, rows as they come, the verdict."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Generic, TypeVar

import ringtree as rt
from ringtree.tuning import tuning_path

from ringtree_bench import machine
from ringtree_bench.cases import Case
from ringtree_bench.rounds import Budget, Contender, Measurement, Named
from ringtree_bench.screen import Screen
from ringtree_bench.sizes import format_size
from ringtree_bench.table import AnyRow, describe
from ringtree_bench.world import World

AnyRowType = TypeVar("AnyRowType", bound=AnyRow)


class Suite(ABC, Generic[AnyRowType]):
    """What stays the same from the first row to the last. Every method is a collective.

    Who derives from it sets `peers` and `notes`, and calls `_introduce`.
    """

    peers: Sequence[Named]
    notes: list[str]

    def __init__(self, world: World, cases: list[Case], seed: int) -> None:
        """Nothing is measured or printed yet."""
        self.world, self.cases, self.seed = world, cases, seed
        self.screen = Screen(world.is_first)
        self.given_up: set[str] = set()  # of the contenders, by name

    def _introduce(self, place: str, facts: Iterable[str], limits: Iterable[str]) -> None:
        """Print what stands above the table; `place`: what the ranks are and where."""
        for text in self._preamble(place, facts, limits):
            self.screen.say(f"# {text}")

    def _preamble(self, place: str, facts: Iterable[str], limits: Iterable[str]) -> Iterator[str]:
        yield f"ringtree {rt.__version__}, {place}, {machine.in_words()}"
        if self.peers:
            yield "beside " + ", ".join(f"{peer.name} ({peer.version})" for peer in self.peers)
        yield from facts
        if tuning_path().exists():
            yield f"auto follows {tuning_path()}"
        yield f"times are medians of the slowest rank; seed {self.seed}"
        yield from limits
        yield from self.notes

    def measure(
        self,
        algorithms: dict[str, list[str]],
        budget: Budget,
        keep: Callable[[list[AnyRowType]], None] = lambda rows: None,
    ) -> list[AnyRowType]:
        """Measure every case with these algorithms of its collective, and print the rows as they come.

        `keep` is given all rows so far, after each case.
        """
        rows: list[AnyRowType] = []
        with self.screen.progress(len(self.cases)):
            for name, cases in groupby(self.cases, key=lambda case: case.collective.name):
                together = list(cases)
                layout = self._layout(together[0], algorithms[name])
                for text in ("#", f"# {self._title(name)}", *layout.header()):
                    self.screen.say(text)
                for case in together:
                    self.screen.begin(f"{name} {case.label or format_size(case.size_bytes)}")
                    if case.label:
                        self.screen.say(f"# {describe(case)}")
                    for row in self._measure_case(case, algorithms[name], budget):
                        self.screen.say(layout.line(row), row)
                        rows.append(row)
                    keep(rows)
                    self.screen.done()
        return rows

    def _measure_case(self, case: Case, algorithms: list[str], budget: Budget) -> list[AnyRowType]:
        contenders, measured = self._time(case, algorithms, budget)
        for index, reason in measured.refused.items():
            self._note(f"{contenders[index].name} does not do {case.kind}: {reason}")
        for index, words in measured.given_up.items():
            self.given_up.add(contenders[index].name)
            self._note(f"{contenders[index].name} was given up in {case.kind}: {words}")
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

    def _title(self, collective: str) -> str:
        return collective

    @abstractmethod
    def _layout(self, case: Case, algorithms: list[str]) -> Any:
        """The columns for cases like `case`."""

    @abstractmethod
    def _time(
        self, case: Case, algorithms: list[str], budget: Budget
    ) -> tuple[Sequence[Contender], Measurement[Any]]:
        """Ringtree's algorithms and then the peers, and what was measured of them."""

    @abstractmethod
    def _row(self, case: Case, algorithm: str, ours: Any, peers: tuple[Any, ...]) -> AnyRowType:
        """The line of one algorithm, given timings of the suite's kind."""

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.screen.say(f"# {text}")

    def close(self, rows: Iterable[AnyRowType]) -> int:
        """Let the peers go, print the verdict; the number of wrong elements."""
        for peer in self.peers:
            peer.close()
        timings = {id(timing): timing for row in rows for timing in row.timings}  # peers stand in many rows
        wrong = sum(timing.wrong for timing in timings.values())
        self.screen.say(f"# {wrong} wrong elements" + (": do not trust these results" if wrong else ""))
        if self.given_up:
            self.screen.say(f"# given up: {', '.join(sorted(self.given_up))}")
        return wrong
