"""Through a communicator that is there already, for split()."""

from typing import Any, Protocol

import numpy as np

from ringtree.rendezvous.wait import Exchange


class Parent(Protocol):
    """What is needed of the communicator."""

    @property
    def world_size(self) -> int: ...  # noqa: D102
    def all_gather(self, out: Any, x: Any) -> Any: ...  # noqa: D102
    def all_gather_v(self, out: Any, x: Any, counts: list[int]) -> Any: ...  # noqa: D102


def through_parent(parent: Parent, members: list[int]) -> Exchange:
    """Called by all of the parent's ranks; returns what those in `members` have given, in that order."""

    def exchange(payload: bytes) -> list[bytes]:
        sizes = np.empty(parent.world_size, np.int64)
        parent.all_gather(sizes, np.array([len(payload)], np.int64))
        everything = np.empty(int(sizes.sum()), np.uint8)
        parent.all_gather_v(everything, payload, sizes.tolist())
        ends = np.cumsum(sizes)
        return [everything[ends[rank] - sizes[rank] : ends[rank]].tobytes() for rank in members]

    return exchange
