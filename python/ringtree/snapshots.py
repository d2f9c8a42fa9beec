"""What the core writes about all ranks of a communicator (docs/debugging.md), as objects."""

import json
from dataclasses import dataclass, field
from typing import Any

from ringtree.errors import InvalidArgument

VERSION = 1


@dataclass(frozen=True)
class Call:
    """A collective of one rank. Times are nanoseconds of the host's monotonic clock."""

    sequence: int
    text: str  # "all_reduce #5 (float32 x 1024, sum, ring)"
    line: str | None  # "/home/me/train.py:31", with RINGTREE_RECORDER=lines
    nbytes: int
    done: bool
    began_ns: int | None
    ended_ns: int | None

    def __str__(self) -> str:
        """What was called, and where if that was noted."""
        return f"{self.text} at {self.line}" if self.line else self.text


@dataclass(frozen=True)
class Message:
    """A send or recv of one rank; `number` counts those of the same direction and place between two ranks."""

    op: str
    peer: int
    number: int
    contents: str  # "float32 x 1024"
    on_gpu: bool
    done: bool
    began_ns: int | None

    def __str__(self) -> str:
        """As errors name it."""
        direction, place = "from" if self.op == "recv" else "to", ", on the GPU" if self.on_gpu else ""
        return f"{self.op} #{self.number} {direction} rank {self.peer} ({self.contents}{place})"


@dataclass(frozen=True)
class RankView:
    """One rank as it stood on its board."""

    rank: int
    pid: int
    state: str  # "absent", "present" or "left"
    process: str  # "runs", "stopped" or "ended"
    entered: int  # the newest collective's sequence number
    done: int
    moved_bytes: int
    waits_for: int | None
    waits_since_ns: int | None
    calls: dict[int, Call] = field(default_factory=dict)  # by sequence number
    messages: tuple[Message, ...] = ()

    @property
    def newest(self) -> Call | None:
        """The collective that it entered last, if it is on record."""
        return self.calls.get(self.entered)


@dataclass(frozen=True)
class Fault:
    """The error that ended a communicator."""

    kind: str
    ranks: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Snapshot:
    """A communicator at one moment, as one rank saw it, or somebody outside (`rank` is None)."""

    communicator: str
    label: str  # what the program calls it, or nothing
    host: str
    world: int
    rank: int | None
    now_ns: int
    fault: Fault | None
    ranks: tuple[RankView, ...]


def title_of(snapshot: Snapshot) -> str:
    """A communicator in a few words."""
    ranks = f"{snapshot.world} rank{'s' if snapshot.world > 1 else ''}"
    label = f" ({snapshot.label})" if snapshot.label else ""
    return f"communicator {snapshot.communicator[:8]}{label}, {ranks} on {snapshot.host}"


def parse(text: str) -> Snapshot:
    """Read what the core wrote.

    Raises:
        InvalidArgument: it is something else, or of another version; the text is only the reason.
    """
    try:
        document = json.loads(text)
        version = document["version"]
        if version != VERSION:
            raise InvalidArgument(f"its version is {version}, and this ringtree reads {VERSION}")
        return _snapshot(document)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"it is not a snapshot ({type(error).__name__}: {error})") from None


def _snapshot(document: dict[str, Any]) -> Snapshot:
    fault = document["fault"]
    return Snapshot(
        document["communicator"],
        document["label"],
        document["host"],
        document["world"],
        document["rank"],
        document["now_ns"],
        fault and Fault(fault["kind"], tuple(fault["ranks"]), fault["text"]),
        tuple(_rank(view) for view in document["ranks"]),
    )


def _rank(view: dict[str, Any]) -> RankView:
    calls = [
        Call(c["sequence"], c["call"], c["line"], c["bytes"], c["done"], c["began_ns"], c["ended_ns"])
        for c in view["calls"]
    ]
    messages = [
        Message(
            m["op"],
            m["peer"],
            m["number"],
            f"{m['dtype']} x {m['count']}",
            m["on_gpu"],
            m["done"],
            m["began_ns"],
        )
        for m in view["messages"]
    ]
    return RankView(
        view["rank"],
        view["pid"],
        view["state"],
        view["process"],
        view["entered"],
        view["done"],
        view["moved_bytes"],
        view["waits_for"],
        view["waits_since_ns"],
        {call.sequence: call for call in calls},
        tuple(messages),
    )
