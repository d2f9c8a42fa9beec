"""Who is measured on GPUs beside ringtree. A new rival is one file here and one line in `PEERS`."""

from ringtree_bench.gpu.rivals.nccl import Nccl
from ringtree_bench.gpu.rivals.protocol import Peer, Prepared, Rival
from ringtree_bench.gpu.rivals.ringtree import OnGpu
from ringtree_bench.gpu.rivals.symmetric import OneShot, TwoShot
from ringtree_bench.gpu.seats import Seat

PEERS: dict[str, Peer] = {"nccl": Nccl(), "symm_one_shot": OneShot, "symm_two_shot": TwoShot}

__all__ = ["PEERS", "OnGpu", "Peer", "Prepared", "Rival", "open_peers"]


def open_peers(seat: Seat, names: list[str]) -> tuple[list[Rival], list[str]]:
    """The rivals called `names` that all ranks can open, and a line for each of the others; a collective."""
    rivals, notes = [], []
    for name in names:
        like = (
            "" if seat.kind == "processes" else "its ranks are processes, and these are not: --as processes"
        )
        problems = [text for text in seat.world.gather(like or PEERS[name].missing(seat)) if text]
        if problems:
            notes.append(f"{name} is not measured: {problems[0]}")
        else:
            rivals.append(PEERS[name](seat))
    return rivals, notes
