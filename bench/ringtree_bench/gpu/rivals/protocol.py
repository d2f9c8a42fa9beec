"""What a rival on GPUs is: something that can enqueue a collective on given memory, again and again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ringtree_bench.cases import Case
from ringtree_bench.gpu.memory import Memory
from ringtree_bench.gpu.seats import Seat


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Prepared:
    """One collective of one seat."""

    call: Callable[[], object]  # enqueues it once, and does nothing else: what is timed
    stream: int  # where
    load: Callable[[], object] = _nothing  # takes the inputs over; not timed
    store: Callable[[], object] = _nothing  # puts the result where the suite looks for it; not timed


class Rival(Protocol):
    """A library under test."""

    name: str
    version: str

    @property
    def blocks(self) -> int | None:
        """Thread blocks of one call, for each rank, at most; None: nobody has told it."""
        ...

    def prepare(self, case: Case, memory: Memory, algorithm: str) -> Prepared:
        """What is to be timed.

        Raises:
            UnsupportedError: at once, where that is known.
        """
        ...

    def refusals(self) -> tuple[type[Exception], ...]:
        """What the library raises, on all ranks alike, for a call which it does not support."""
        ...

    def close(self) -> None:
        """Leave the process group."""
        ...


class Peer(Protocol):
    """How a rival other than ringtree joins: a class in the catalogue `PEERS`. See the host's protocol."""

    def missing(self, seat: Seat) -> str:
        """Why it cannot take part; empty when it can. Not a collective."""
        ...

    def __call__(self, seat: Seat) -> Rival:
        """Join; a collective, entered only when no rank misses anything."""
        ...
