"""Who is measured beside ringtree. A new rival is one file here and one line in `PEERS`."""

from ringtree_bench.rivals.gloo import Gloo
from ringtree_bench.rivals.mpi import Mpi
from ringtree_bench.rivals.protocol import Peer, Rival, Task, UnsupportedError
from ringtree_bench.rivals.ringtree import Ringtree
from ringtree_bench.world import World

PEERS: dict[str, Peer] = {
    "gloo": Gloo,
    "mpi": Mpi,
}

__all__ = ["PEERS", "Peer", "Ringtree", "Rival", "Task", "UnsupportedError", "open_peers"]


def open_peers(world: World, names: list[str]) -> tuple[list[Rival], list[str]]:
    """The rivals called `names` that all ranks can open, and a line for each of the others; a collective."""
    rivals, notes = [], []
    for name in names:
        problems = [problem for problem in world.gather(PEERS[name].missing(world)) if problem]
        if problems:
            notes.append(f"{name} is not measured: {problems[0]}")
        else:
            rivals.append(PEERS[name](world))
    return rivals, notes
