"""One run of the suite on the host."""

from collections.abc import Iterator, Sequence
from functools import partial

from ringtree_bench import machine
from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case
from ringtree_bench.limits import measure_limits
from ringtree_bench.measure import Contender, Stage
from ringtree_bench.rivals import Environment, Group, Ringtree, Rival, open_groups, open_peers
from ringtree_bench.rounds import Budget, Measurement, Timing
from ringtree_bench.suite import Suite
from ringtree_bench.table import Layout, Row
from ringtree_bench.worker import pages
from ringtree_bench.world import World

_BUSY_LOAD = 0.7  # of the last minute: a run that has just ended leaves less after a short pause


class Run(Suite[Row]):
    """Contenders on arrays of the host."""

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
        super().__init__(world, cases, seed)
        self.zero_copy = zero_copy
        self.load = machine.load()
        joined, self.notes = open_peers(world, peer_names)
        started, problems = open_groups(world, list(environments), cases)
        self.peers: list[Rival | Group] = [*joined, *started]
        self.notes += problems
        self.limits = measure_limits(world, cases)
        self._ringtree = Ringtree(world.comm)
        allocate = partial(world.comm.empty, dtype="uint8") if zero_copy else pages
        self._stage = Stage(world, Buffers(cases, allocate), seed)
        place = f"{world.size} rank{'s' if world.size > 1 else ''} over {world.comm.transport}"
        self._introduce(place, self._facts(), self.limits.lines())

    def _facts(self) -> Iterator[str]:
        if self.load > _BUSY_LOAD:
            yield f"this machine is busy (load {self.load:.1f}): times are noisy, as the spread shows"
        if self.zero_copy:
            yield "all arrays come from comm.empty()"

    def _layout(self, case: Case, algorithms: list[str]) -> Layout:
        return Layout(case, algorithms, [peer.name for peer in self.peers])

    def _time(
        self, case: Case, algorithms: list[str], budget: Budget
    ) -> tuple[list[Contender], Measurement[Timing]]:
        contenders = [Contender(self._ringtree, algorithm) for algorithm in algorithms]
        contenders += [Contender(peer) for peer in self.peers]
        return contenders, self._stage.measure(case, contenders, budget)

    def _row(self, case: Case, algorithm: str, ours: Timing | None, peers: tuple[Timing | None, ...]) -> Row:
        return Row(case, algorithm, ours, peers, self.limits.ideal_seconds(case))
