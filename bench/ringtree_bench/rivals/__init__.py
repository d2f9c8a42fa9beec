"""Who is measured beside ringtree. A new rival is one file here and one line in `PEERS`."""

from ringtree_bench.cases import Case
from ringtree_bench.rivals.c10d import C10d, Gloo
from ringtree_bench.rivals.environment import Environment
from ringtree_bench.rivals.group import Group
from ringtree_bench.rivals.mpi import Mpi
from ringtree_bench.rivals.protocol import Peer, Rival, Task, UnsupportedError
from ringtree_bench.rivals.ringtree import Ringtree
from ringtree_bench.rivals.unrecorded import Unrecorded
from ringtree_bench.world import World

PEERS: dict[str, Peer] = {
    "gloo": Gloo,
    "mpi": Mpi,
    "c10d": C10d,
    "unrecorded": Unrecorded,
}

__all__ = [
    "PEERS",
    "Environment",
    "Group",
    "Peer",
    "Ringtree",
    "Rival",
    "Task",
    "UnsupportedError",
    "open_groups",
    "open_peers",
]


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


def open_groups(
    world: World, environments: list[Environment], cases: list[Case]
) -> tuple[list[Group], list[str]]:
    """The rivals whose processes could be started, and a line for each of the others; a collective."""
    groups, notes = [], []
    for environment in environments:
        try:
            groups.append(Group(world, environment, cases))
        except UnsupportedError as error:
            notes.append(f"{environment.name} is not measured: {error}")
    return groups, notes
