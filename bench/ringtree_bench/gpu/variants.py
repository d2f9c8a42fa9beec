"""Ways to run one algorithm on a GPU, named by words behind its name: `ring in packets in a graph`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ringtree.catalogue import ZERO_COPY

IN_GRAPH = " in a graph"  # recorded once, and replayed
PROTOCOLS = ("auto", "slots", "packets")  # how messages travel; auto: by size
EVERY_SIZE = 1 << 62


@dataclass(frozen=True)
class Variant:
    """One way."""

    algorithm: str
    protocol: str = "auto"
    in_graph: bool = False

    @classmethod
    def parse(cls, name: str) -> "Variant":
        """What `name` stands for."""
        plain = name.removesuffix(IN_GRAPH)
        for protocol in PROTOCOLS[1:]:
            if plain.endswith(f" in {protocol}"):
                return cls(plain.removesuffix(f" in {protocol}"), protocol, plain != name)
        return cls(plain, "auto", plain != name)

    @property
    def name(self) -> str:
        """What parse() reads."""
        how = "" if self.protocol == "auto" else f" in {self.protocol}"
        return f"{self.algorithm}{how}{IN_GRAPH if self.in_graph else ''}"

    @property
    def packet_bytes(self) -> int | None:
        """Up to how many bytes a call goes in packets; None: as the communicator has it."""
        return {"auto": None, "slots": 0, "packets": EVERY_SIZE}[self.protocol]


def named(algorithms: Iterable[str], protocols: Iterable[str], graph: bool) -> list[str]:
    """All variants of these, those in a graph behind the others; zero_copy has no protocol."""
    plain = [
        Variant(each, protocol)
        for each in algorithms
        for protocol in (PROTOCOLS[:1] if each == ZERO_COPY else protocols)
    ]
    recorded = [replace(each, in_graph=True) for each in plain if graph]
    return [each.name for each in (*plain, *recorded)]
