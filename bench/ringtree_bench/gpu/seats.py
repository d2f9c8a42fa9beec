"""How ranks come to be on GPUs: all in one launch, as threads, or as processes.

A seat is a thread of the host that makes calls for one rank, or for all of them if they are virtual. What
seats tell each other beside the collectives under test goes over a communicator of its own, on the host.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import ringtree as rt
from ringtree import _core
from ringtree.cuda.streams import ask_for_queues, own_stream

from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.gpu.tensors import torch_of_gpu
from ringtree_bench.start import opened_world
from ringtree_bench.world import World

COLLECTIVES_ON_GPU = list(COLLECTIVES)
KINDS = ("virtual", "threads", "processes")


@dataclass(frozen=True)
class Seat:
    """Where one thread sits."""

    world: World  # of the seats
    kind: str
    size: int  # ranks
    ranks: tuple[int, ...]  # those that this seat makes calls for
    calls: "rt.Communicator | rt.cuda.VirtualRanks"
    device: str  # of the first seat, as `ringtree.cuda.device_name` gives it
    sharing: int  # the most ranks on one GPU
    protocol: str  # how messages travel: `lines up to 256 KiB`
    staged: bool = False  # no peer access: messages go through memory of the host
    _packets: dict[str, int | None] = field(default_factory=dict)  # what prefer_packets() found

    @property
    def collectives(self) -> list[str]:
        """Those that these ranks can make: virtual ones send no messages."""
        return [name for name in COLLECTIVES_ON_GPU if self.kind != "virtual" or name in rt.COLLECTIVES]

    @property
    def in_words(self) -> str:
        """`8 ranks sharing one GPU, all in one launch, lines up to 256 KiB`."""
        what = {"virtual": "all in one launch", "threads": "threads", "processes": "processes"}[self.kind]
        where = ""
        if self.sharing > 1:
            where = " sharing one GPU" if self.sharing == self.size else f", up to {self.sharing} on one GPU"
        how = ", staged in memory of the host" if self.staged else f", {self.protocol}"
        return f"{self.size} rank{'s' if self.size > 1 else ''}{where}, {what}{how}"

    @property
    def has_choice(self) -> bool:
        """Whether a message may go in slots or in packets: there are both, and nobody has ordered one."""
        return self.protocol != "slots" and not self.protocol.endswith("of all sizes")

    def check(self) -> None:
        """Raise what has gone wrong on the GPU, once its calls are over.

        Raises:
            Timeout: a kernel waited for another rank in vain.
        """
        if isinstance(self.calls, rt.cuda.VirtualRanks):
            self.calls.check()
        else:
            self.calls.synchronize()

    def prefer_packets(self, collective: str, nbytes: int | None) -> None:
        """Up to how many bytes calls go in packets from now on; None: as when this seat was taken."""
        if collective not in rt.COLLECTIVES:  # a message, which has its own rule
            return
        wanted = self._packets.get(collective) if nbytes is None else nbytes
        if isinstance(self.calls, rt.cuda.VirtualRanks):
            before = self.calls._core.packets(collective, wanted)
        else:
            before = self.calls._core.packets_on_gpu(collective, wanted)
        if nbytes is not None:
            self._packets.setdefault(collective, before)

    def chosen(self, collective: str, nbytes: int) -> str:
        """The algorithm that "auto" takes; see Communicator.chosen."""
        if isinstance(self.calls, rt.cuda.VirtualRanks):
            return self.calls.chosen(collective, nbytes)
        return self.calls.chosen(collective, nbytes, device="cuda")


def with_seats(kind: str, ranks: int | None, body: Callable[[Seat], bool]) -> bool:
    """Run `body` at every seat; what it returned at the first.

    Raises:
        TransportError: there is no GPU, or no CUDA fabric.
    """
    ask_for_queues(ranks or 1 if kind == "threads" else 1)
    if kind != "virtual":
        torch_of_gpu()  # imported before the ranks are given streams of their own
    if kind == "processes":
        with opened_world(ranks) as world:
            group = world.comm.split(0)
            assert group is not None  # who gives a color is in a group
            _core.gpu_use(world.hosts[: world.rank].count(world.hosts[world.rank]) % _core.gpu_count())
            with group, own_stream():
                return body(_seat(world, kind, group))
    if kind == "threads":
        return rt.run_local(ranks or 2, _in_thread, body, device="cuda")[0]
    return rt.run_local(1, lambda comm: body(_virtual(World(comm), ranks or 2)))[0]


def _in_thread(comm: rt.Communicator, body: Callable[[Seat], bool]) -> bool:
    control = comm.split(0)
    assert control is not None  # likewise
    with control:
        return body(_seat(World(control), "threads", comm))


def _seat(world: World, kind: str, comm: rt.Communicator) -> Seat:
    host = world.hosts[world.rank]
    places = world.gather((host, _core.gpu_bus(_core.gpu_current())))
    sharing = max(Counter(places).values())
    name = world.agree(rt.cuda.device_name(_core.gpu_current()))
    comm.all_reduce(comm.empty(1, device="cuda"))  # the first call finds out how messages travel
    comm.synchronize()
    protocol = comm._core.protocol()
    return Seat(world, kind, comm.world_size, (comm.rank,), comm, name, sharing, protocol, comm.staged)


def _virtual(world: World, ranks: int) -> Seat:
    virtual = rt.cuda.VirtualRanks(ranks)
    name = rt.cuda.device_name(_core.gpu_current())
    protocol = virtual._core.protocol()
    return Seat(world, "virtual", ranks, tuple(range(ranks)), virtual, name, ranks, protocol)
