"""The predicted time of a call: hand-overs, messages and bytes, between hosts and inside them.

Source of the form: R. Hockney, Parallel Computing 20 (1994); with messages charged apart, as in LogGP
(Alexandrov et al., SPAA 1995). docs/planning.md says what it leaves out.
"""

from dataclasses import dataclass

import ringtree as rt
from ringtree import _core

from ringtree_bench.planning.constants import Constants
from ringtree_bench.planning.hosts import Spread, crossing


@dataclass(frozen=True)
class Network:
    """What connects the hosts; seconds, bytes per second, bytes."""

    hosts: int
    alpha: float  # of a hand-over between ranks on two hosts
    bandwidth: float  # that a host sends with, and receives with at the same time
    gap: float  # between two messages of one host
    piece: int  # bytes that cross at once


@dataclass(frozen=True)
class Job:
    """Who takes part: ranks, on one host unless there is a network, with what it costs inside a host."""

    ranks: int
    constants: Constants
    network: Network | None = None

    def seconds(self, collective: str, algorithm: str, size: int) -> float:
        """Predicted time of one call on an array of `size` bytes, as the suite counts them."""
        network = self.network
        cost = declared(collective, algorithm, self.ranks, size, network.piece if network else None)
        if network is None:
            return self.constants.seconds(algorithm, size, cost)
        first = declared(collective, algorithm, self.ranks, size, float(size * self.ranks))
        call = Spread(self.ranks, network.hosts, size, cost, max(1.0, cost.steps / max(first.steps, 1.0)))
        outside = crossing(collective, algorithm, call)
        return (
            self.constants.call
            + outside.steps * network.alpha
            + (cost.steps - outside.steps) * self.constants.step
            + outside.messages * network.gap
            + outside.sent_bytes / network.bandwidth
            + self.constants.moving_seconds(algorithm, size, cost)
        )

    def times(self, collective: str, size: int) -> dict[str, float]:
        """Seconds of each algorithm of `collective`."""
        return {name: self.seconds(collective, name, size) for name in rt.algorithms(collective)}


def declared(
    collective: str, algorithm: str, ranks: int, size: int, piece: float | None = None
) -> _core.Cost:
    """What `algorithm` declares about an array of `size` bytes; the core counts an all-to-all's n times."""
    nbytes = size * (ranks if collective == "all_to_all" else 1)
    return _core.cost(collective, algorithm, ranks, nbytes, piece)
