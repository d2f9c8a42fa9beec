"""One run of the suite on GPUs."""

from collections.abc import Sequence

import ringtree as rt
from ringtree import _core

from ringtree_bench.cases import Case
from ringtree_bench.gpu.limits import WARM_UP, Limits, measure_limits
from ringtree_bench.gpu.measure import Contender, GpuTiming, Stage
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.rivals import OnGpu, Rival, open_peers
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.gpu.table import Layout, Row
from ringtree_bench.gpu.variants import Variant
from ringtree_bench.rounds import Budget, Measurement
from ringtree_bench.suite import Suite


class Run(Suite[Row]):
    """Contenders on arrays of GPUs; its methods are collectives of all seats."""

    def __init__(
        self,
        seat: Seat,
        cases: list[Case],
        peer_names: Sequence[str],
        seed: int,
        *,
        warm_up: float = WARM_UP,
        skipped: int = 0,
    ) -> None:
        """Let the peers join, measure the limits, print what stands above the table.

        `warm_up`: seconds of copies before the limits are measured. `skipped`: see Memory.
        """
        super().__init__(seat.world, cases, seed)
        self.seat = seat
        self.peers: list[Rival]
        self.peers, self.notes = open_peers(seat, list(peer_names))
        self._warm_up, self.skipped = warm_up, skipped
        self.limits = measure_limits(seat, cases, warm_up)
        self.limits_after: Limits | None = None
        self._ringtree = OnGpu(seat)
        self._stage = Stage(seat, Memory(seat.ranks, cases, skipped), seed)
        self._introduce(f"{seat.in_words}, {seat.device}", (), self.limits.lines())

    def measure_limits_again(self) -> None:
        """What the GPU allows by now, behind the rows; said below the table."""
        self.limits_after = measure_limits(self.seat, self.cases, self._warm_up)
        for text in ("again, behind the rows:", *self.limits_after.lines()):
            self.screen.say(f"# {text}")

    @property
    def blocks(self) -> dict[str, int | None]:
        """Of one call, for each rank, at most: ringtree's and the peers'; None: nobody has told them."""
        return {"ringtree": self.seat.channels} | {peer.name: peer.blocks for peer in self.peers}

    def _title(self, collective: str) -> str:
        blocks = ", ".join(f"{name} {number or 'as it likes'}" for name, number in self.blocks.items())
        return f"{collective}, {self.seat.in_words}; most blocks of a rank: {blocks}"

    def _layout(self, case: Case, algorithms: list[str]) -> Layout:
        return Layout(case, algorithms, [peer.name for peer in self.peers], self.limits)

    def _time(
        self, case: Case, algorithms: list[str], budget: Budget
    ) -> tuple[list[Contender], Measurement[GpuTiming]]:
        contenders = [Contender(self._ringtree, algorithm) for algorithm in algorithms]
        contenders += [Contender(peer) for peer in self.peers]
        return contenders, self._stage.measure(case, contenders, budget)

    def _row(
        self, case: Case, algorithm: str, ours: GpuTiming | None, peers: tuple[GpuTiming | None, ...]
    ) -> Row:
        collective = case.collective.name
        taken = Variant.parse(algorithm).algorithm
        if collective not in rt.COLLECTIVES:  # a message, which goes through the links and chooses nothing
            return Row(case, algorithm, ours, peers, "links", 2 * case.least_traffic_bytes)
        if taken == "auto":
            taken = self.seat.chosen(collective, case.chooser_bytes)
        declared = _core.cost(collective, taken, case.world, case.chooser_bytes).moved_bytes
        return Row(case, algorithm, ours, peers, taken, case.world * declared)
