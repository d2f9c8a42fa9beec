"""What a rival is: something that can be told to run a collective on given buffers, again and again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ringtree_bench.check import Array
from ringtree_bench.world import World


class UnsupportedError(Exception):
    """The rival has no such collective, type or operation; the text says which."""


@dataclass(frozen=True)
class Task:
    """One collective on this rank's buffers.

    `out` is empty where the result replaces `x`; root-only buffers exist on every rank and are to be used on
    the root alone.
    """

    collective: str
    x: Array
    out: Array
    op: str
    algorithm: str
    rank: int
    world: int


class Rival(Protocol):
    """A library under test."""

    name: str
    version: str

    def prepare(self, task: Task) -> Callable[[], object]:
        """A function that makes one blocking call for `task` and does nothing else: it is what is timed.

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
    """How a rival other than ringtree joins a run: a class in the catalogue `PEERS`."""

    def missing(self, world: World) -> str:
        """Why it cannot take part: what to install, or how to start. Empty when it can. Not a collective."""
        ...

    def __call__(self, world: World) -> Rival:
        """Join; a collective, entered only when no rank misses anything."""
        ...
