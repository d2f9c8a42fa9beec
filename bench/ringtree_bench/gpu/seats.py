"""How ranks come to be on GPUs: all in one launch, as threads, or as processes.

A seat is a thread of the host that makes calls for one rank, or for all of them if they are virtual. What
seats tell each other beside the collectives under test goes over a communicator of its own, on the host. That
one is the more patient: a call that never ends is found out by the ranks that wait in it, and told to the
others, which wait for them meanwhile.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import ringtree as rt
from ringtree import _core
from ringtree.cuda.streams import ask_for_queues, own_stream
from ringtree.errors import RingtreeError
from ringtree.launch import timeout_of

from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.gpu.tensors import torch_of_gpu
from ringtree_bench.start import opened_world
from ringtree_bench.world import World

COLLECTIVES_ON_GPU = list(COLLECTIVES)
KINDS = ("virtual", "threads", "processes")

Calls = rt.Communicator | rt.cuda.VirtualRanks


@dataclass
class Seat:
    """Where one thread sits."""

    world: World  # of the seats
    kind: str
    size: int  # ranks
    ranks: tuple[int, ...]  # those that this seat makes calls for
    calls: Calls
    device: str  # of the first seat, as `ringtree.cuda.device_name` gives it
    sharing: int  # the most ranks on one GPU
    protocol: str  # how messages travel: `lines up to 256 KiB`
    channels: int  # thread blocks of one call, for each rank, at most
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

    def renew(self) -> None:
        """Go on after a call that went wrong, with what makes the calls opened anew; a collective."""
        self._packets.clear()
        if isinstance(self.calls, rt.cuda.VirtualRanks):
            self.calls = rt.cuda.VirtualRanks(self.size, timeout=_patience())
            return
        with suppress(RingtreeError):  # it has been told already
            self.calls.close()
        self.calls = _connected(self.world)

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
    more_patient = 2 * _patience() + 10
    if kind == "processes":
        with opened_world(ranks, more_patient) as world:
            _core.gpu_use(world.hosts[: world.rank].count(world.hosts[world.rank]) % _core.gpu_count())
            with own_stream():
                return _seated(world, kind, body)
    if kind == "threads":
        size = ranks or 2
        return rt.run_local(size, _in_thread, body, timeout=more_patient, device="cuda")[0]
    return rt.run_local(1, lambda comm: body(_virtual(World(comm), ranks or 2)))[0]


def _in_thread(comm: rt.Communicator, body: Callable[[Seat], bool]) -> bool:
    return _seated(World(comm), "threads", body)


def _seated(world: World, kind: str, body: Callable[[Seat], bool]) -> bool:
    seat = _seat(world, kind)
    try:
        return body(seat)
    finally:  # what makes the calls by then: see Seat.renew()
        assert isinstance(seat.calls, rt.Communicator)
        seat.calls.__exit__(*sys.exc_info())


def _seat(world: World, kind: str) -> Seat:
    host = world.hosts[world.rank]
    places = world.gather((host, _core.gpu_bus(_core.gpu_current())))
    sharing = max(Counter(places).values())
    name = world.agree(rt.cuda.device_name(_core.gpu_current()))
    comm = _connected(world)
    protocol, channels = comm._core.protocol(), comm._core.channels()
    return Seat(world, kind, world.size, (world.rank,), comm, name, sharing, protocol, channels, comm.staged)


def _connected(world: World) -> rt.Communicator:
    """A communicator of the same ranks that has made its first call on the GPU; a collective."""
    comm = world.comm.split(0, timeout=_patience())
    assert comm is not None  # who gives a color is in a group
    comm.all_reduce(comm.empty(1, device="cuda"))  # the first call finds out how messages travel
    comm.synchronize()
    return comm


def _virtual(world: World, ranks: int) -> Seat:
    virtual = rt.cuda.VirtualRanks(ranks, timeout=_patience())
    name = rt.cuda.device_name(_core.gpu_current())
    protocol, channels = virtual._core.protocol(), virtual._core.channels()
    return Seat(world, "virtual", ranks, tuple(range(ranks)), virtual, name, ranks, protocol, channels)


def _patience() -> float:
    """Seconds that a call on the GPU waits for other ranks."""
    return timeout_of(None, os.environ)
