"""Which algorithm "auto" takes, where the user has a say: `ringtree tune`'s file and RINGTREE_ALGORITHM.

All ranks must choose alike, so rank 0's settings hold for all: it reads them and every rendezvous carries
them. What is wrong with them travels too, so that every rank says so.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ringtree.catalogue import COLLECTIVES, ZERO_COPY, algorithms
from ringtree.errors import InvalidArgument

VERSION = 1
ON_GPU = "cuda"  # the transport of rules for arrays on GPUs, whatever connects the hosts of the ranks

Rules = list[tuple[int, str]]  # (up to this many bytes, algorithm), ascending; the last holds for all above


@dataclass(frozen=True)
class Entry:
    """What was found best for one collective, on one transport, at one world size."""

    collective: str
    transport: str
    world: int
    rules: Rules
    packets: int | None = None  # on GPUs: calls of up to this many bytes go in packets


@dataclass(frozen=True)
class Settings:
    """A process's settings, or what is wrong with them."""

    tuned: list[Entry] = field(default_factory=list)
    forced: dict[str, str] = field(default_factory=dict)  # collective to algorithm
    problem: str = ""

    def encode(self) -> bytes:
        """For the rendezvous."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, text: bytes) -> "Settings":
        """What encode() made."""
        content = json.loads(text)
        return cls([_entry(entry) for entry in content["tuned"]], content["forced"], content["problem"])

    def rules_for(self, transport: str, world: int) -> Iterator[tuple[str, Rules]]:
        """The rules for each collective of such a communicator; a later one replaces an earlier.

        Raises:
            InvalidArgument: something is wrong with the settings.
        """
        for entry in self._entries(transport, world):
            yield entry.collective, entry.rules

    def packets_for(self, world: int) -> Iterator[tuple[str, int]]:
        """Up to how many bytes calls of each collective of arrays on a GPU go in packets.

        Raises:
            InvalidArgument: something is wrong with the settings.
        """
        for entry in self._entries(ON_GPU, world):
            if entry.packets is not None:
                yield entry.collective, entry.packets

    def _entries(self, transport: str, world: int) -> Iterator[Entry]:
        if self.problem:
            raise InvalidArgument(self.problem)
        return (entry for entry in self.tuned if (entry.transport, entry.world) == (transport, world))


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """What the tuning file and RINGTREE_ALGORITHM say."""
    try:
        return Settings(
            read_tuning(tuning_path(environment)),
            forced_algorithms(environment.get("RINGTREE_ALGORITHM", "")),
        )
    except InvalidArgument as error:
        return Settings(problem=str(error))


def tuning_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `ringtree tune` writes: $RINGTREE_TUNING, else ringtree/tuning.json in the user's settings."""
    if path := environment.get("RINGTREE_TUNING"):
        return Path(path)
    folder = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "ringtree" / "tuning.json"


def read_tuning(path: Path) -> list[Entry]:
    """The entries of a tuning file; none if there is no file.

    Raises:
        InvalidArgument: it is not a tuning file, or of another version; names the path.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise _not_tuning(path, f"{type(error).__name__}: {error}") from None
    try:
        version, entries = content["version"], [_entry(entry) for entry in content["entries"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_tuning(path, f"{type(error).__name__}: {error}") from None
    if version != VERSION:
        raise _not_tuning(path, f"its version is {version}, not {VERSION}")
    for entry in entries:
        limits = [limit for limit, _ in entry.rules]
        if not limits or limits != sorted(set(limits)):
            raise _not_tuning(path, f"the sizes of its rules for {entry.collective} do not ascend: {limits}")
        if entry.packets is not None and entry.packets < 0:
            raise _not_tuning(path, f"packets of {entry.collective} up to {entry.packets} bytes")
        unknown = {name for _, name in entry.rules} - set(_algorithms_of(entry))
        if unknown:
            raise _not_tuning(path, f"there is no {entry.collective} by {', '.join(sorted(unknown))}")
    return entries


def forced_algorithms(text: str) -> dict[str, str]:
    """What RINGTREE_ALGORITHM forces, as collective to algorithm.

    Args:
        text: "ring", for every collective that has it, or "all_reduce=ring,broadcast=two_shot".

    Raises:
        InvalidArgument: there is no such collective or algorithm; names RINGTREE_ALGORITHM.
    """
    forced: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        collective, one, name = part.rpartition("=")
        if one and collective not in COLLECTIVES:
            raise InvalidArgument(
                f"RINGTREE_ALGORITHM={text!r}: there is no collective {collective!r}; "
                f"there are {', '.join(COLLECTIVES)}"
            )
        candidates = [collective] if one else COLLECTIVES
        having = [candidate for candidate in candidates if name in algorithms(candidate)]
        if not having:
            known = sorted({name for candidate in candidates for name in algorithms(candidate)})
            where = f" of {collective}" if one else ""
            raise InvalidArgument(
                f"RINGTREE_ALGORITHM={text!r}: there is no algorithm {name!r}{where}; "
                f"there are {', '.join(known)}"
            )
        forced.update(dict.fromkeys(having, name))
    return forced


def _entry(content: Mapping[str, object]) -> Entry:
    rules, packets = content["rules"], content.get("packets")
    if not isinstance(rules, list):
        raise TypeError(f"rules are {rules!r}")
    return Entry(
        str(content["collective"]),
        str(content["transport"]),
        int(str(content["world"])),
        [(int(limit), str(name)) for limit, name in rules],
        None if packets is None else int(str(packets)),
    )


def _algorithms_of(entry: Entry) -> list[str]:
    if entry.collective not in COLLECTIVES:
        return []
    anywhere = algorithms(entry.collective)
    return [*anywhere, ZERO_COPY] if entry.transport == ON_GPU else anywhere


def _not_tuning(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path} is no tuning file that this ringtree can read ({why}); run `ringtree tune`, or remove it"
    )
