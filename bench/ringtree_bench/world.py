"""What the ranks tell each other outside of the timed calls: objects, decisions, a common start."""

import math
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import ringtree as rt

_SETTLE_SECONDS = 50e-6  # longer than a futex wake-up takes: by then every rank has left the collective


class World:
    """The ranks of one run, over a ringtree communicator.

    Every method but the properties is a collective: all ranks call it, in the same order.
    """

    def __init__(self, comm: rt.Communicator) -> None:
        """Wrap `comm`; a collective."""
        self.comm = comm
        self.rank, self.size = comm.rank, comm.world_size
        self._start = np.zeros(1)
        self.hosts: list[str] = self.gather(_host_identity())

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that decides, prints and writes."""
        return self.rank == 0

    @property
    def on_one_host(self) -> bool:
        """Whether all ranks share a clock and a memory."""
        return len(set(self.hosts)) == 1

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, by rank, on every rank."""
        payload = np.frombuffer(pickle.dumps(value), dtype=np.uint8).copy()
        lengths = np.zeros(self.size, dtype=np.int64)
        self.comm.all_gather(lengths, np.array([payload.size], dtype=np.int64))
        counts = [int(length) for length in lengths]
        everything = np.zeros(sum(counts), dtype=np.uint8)
        self.comm.all_gather_v(everything, payload, counts)
        pieces = np.split(everything, np.cumsum(counts)[:-1])
        return [pickle.loads(piece.tobytes()) for piece in pieces]

    def agree(self, value: Any) -> Any:
        """The first rank's `value`, on every rank."""
        return self.gather(value if self.is_first else None)[0]

    def align(self, is_sound: bool = True) -> bool:
        """Let all ranks go on at the same instant, whoever is timed next; whether all of them are sound.

        A barrier alone lets its ranks out one after the other, and a rank that must first be woken may leave
        50 us late, which would be charged to the rival under test. So the barrier is an all-reduce of the
        time at which each rank arrived, and all wait for a moment shortly after the last arrival. Ranks on
        several hosts have no common clock; they get the barrier. A rank that is not sound never starts, and
        tells the others so by the same word.
        """
        self._start[0] = time.perf_counter() if is_sound else math.inf
        self.comm.all_reduce(self._start, op="max")
        start = float(self._start[0]) + _SETTLE_SECONDS
        if math.isinf(start):
            return False
        while self.on_one_host and time.perf_counter() < start:
            time.sleep(0)  # lets go of the interpreter lock: ranks may be threads of one process
        return True


def _host_identity() -> str:
    """What tells this running machine from others, even where two containers have the same name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        return boot.read_text().strip()
    import platform

    return platform.node()
