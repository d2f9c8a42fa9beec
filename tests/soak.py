"""An hour of random calls, delays, stops and kills: `make soak`, or `python tests/soak.py SECONDS`.

Life after life, a world of 2 to 6 processes works through a random plan of collectives and messages, of which
every result is checked. Every now and then a rank is stopped for a moment, which must harm nobody, or killed;
the others shrink and go on, until one is left. After each shrink a rank counts its descriptors, threads and
segments; after each life there must be no process and no name in /dev/shm; in the end, the memory of a world
that nobody kills must not have grown.
"""

import os
import random
import secrets
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import ringtree as rt
from contract.plans import Message, make_call, pass_message, random_step
from contract.processes import Processes, tell

PAUSE_SECONDS = 0.3
CALM_SHARE = 0.2  # of the time, for the world that nobody kills
GROWTH_BYTES = 8 << 20


def holdings() -> tuple[int, int, int]:
    """Descriptors, threads and segments of this process, without the blocks of comm.empty, which it keeps."""
    segments = Path("/proc/self/maps").read_text().count("/dev/shm/ringtree-")
    targets = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    descriptors = [target for target in targets if not target.startswith(("/memfd:ringtree", "/proc/"))]
    return len(descriptors), threading.active_count(), segments


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Walk:
    """One random call after the other, the same on every rank, sometimes late."""

    def __init__(self, comm: rt.Communicator, seed: int) -> None:
        self.number = 0
        self._seed = seed
        self._late = random.Random(f"{seed} {comm.rank}")

    def step(self, comm: rt.Communicator) -> None:
        step = random_step(np.random.default_rng((self._seed, self.number)), comm.world_size, self.number)
        if self._late.random() < 0.02:
            time.sleep(self._late.random() * 0.02)
        if step is None:
            comm.barrier()
        elif isinstance(step, Message):
            for check in pass_message(comm, step):
                check()
        else:
            make_call(comm, step)()
        self.number += 1

    def meet(self, comm: rt.Communicator) -> None:
        """Ranks may have been at different steps when one of them died."""
        newest = np.array([self.number])
        comm.all_reduce(newest, op="max")
        self.number = int(newest[0]) + 1


def live(comm: rt.Communicator, seed: int) -> int:
    """Goes on until nobody else is left; returns the number of steps."""
    walk = Walk(comm, seed)
    comm.barrier()
    own_descriptors = holdings()[0] - comm.world_size  # there is one a peer
    while comm.world_size > 1:
        tell("working")
        try:
            while True:
                walk.step(comm)
        except rt.RankFailure:
            comm = comm.shrink()
            walk.meet(comm)
            descriptors, _, segments = holdings()
            assert descriptors - comm.world_size == own_descriptors, f"{descriptors} descriptors"
            assert segments == 1, f"{segments} segments"
    comm.close()
    return walk.number


def live_in_peace(comm: rt.Communicator, seed: int, seconds: float) -> tuple[int, list[int]]:
    """Steps, and the least memory of this rank in the second and in the last quarter of the time.

    The least, because what is resident depends on the arrays that live at a moment. Blocks that comm.empty
    keeps are all there after a quarter.
    """
    walk, began = Walk(comm, seed), time.monotonic()
    quarters: list[list[int]] = [[] for _ in range(4)]
    quarter = np.zeros(1, np.int64)
    while quarter[0] < 4:
        for _ in range(100):
            walk.step(comm)
        quarters[quarter[0]].append(resident_bytes())
        quarter[0] = int(4 * (time.monotonic() - began) / seconds)
        comm.broadcast(quarter)
    return walk.number, [min(quarters[1]), min(quarters[3])]


def names_in_shm() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("ringtree-")}


def check_shm(before: set[str]) -> None:
    """Other programs' segments have names for a moment; but none keeps it."""
    left, deadline = names_in_shm() - before, time.monotonic() + 30
    while left := left & names_in_shm():
        assert time.monotonic() < deadline, f"left in /dev/shm: {left}"
        time.sleep(0.01)


def one_life(chance: random.Random, seed: int, deadline: float) -> tuple[int, int, int]:
    """Ranks, steps and kills."""
    world = chance.randint(2, 6)
    with Processes(world, live, seed, options={"timeout": 60}) as ranks:
        alive = list(range(world))
        for rank in alive:
            ranks.hear(rank, 60)
        while len(alive) > 1:
            time.sleep(chance.random() * 2 if time.monotonic() < deadline else 0)
            victim = chance.choice(alive)
            if chance.random() < 0.4:
                os.kill(ranks.pids[victim], signal.SIGSTOP)
                time.sleep(PAUSE_SECONDS)
                os.kill(ranks.pids[victim], signal.SIGCONT)
                continue
            os.kill(ranks.pids[victim], signal.SIGKILL)
            alive.remove(victim)
            for rank in alive if len(alive) > 1 else ():
                ranks.hear(rank, 60)  # it has shrunk and works again
        outcomes = ranks.outcomes(60)
    return world, outcomes[alive[0]].result(), world - 1


def main(seconds: float) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    before, descriptors = names_in_shm(), holdings()[0]
    deadline = time.monotonic() + seconds * (1 - CALM_SHARE)
    lives = steps = kills = 0
    while time.monotonic() < deadline:
        world, more_steps, more_kills = one_life(chance, chance.getrandbits(32), deadline)
        lives, steps, kills = lives + 1, steps + more_steps, kills + more_kills
        check_shm(before)
        print(f"life {lives}: {world} ranks, {more_steps} steps", flush=True)
        if lives == 1:
            descriptors = holdings()[0]  # with those of the fork server
        assert holdings()[0] == descriptors, f"{holdings()[0]} descriptors instead of {descriptors}"

    with Processes(3, live_in_peace, seed, seconds * CALM_SHARE) as ranks:
        outcomes = [outcome.result() for outcome in ranks.outcomes(seconds)]
    for rank, (_, (early, late)) in enumerate(outcomes):
        grown = late - early
        print(
            f"in peace, rank {rank}: {outcomes[0][0]} steps, memory grew by {grown / 1e6:.1f} MB", flush=True
        )
        assert grown < GROWTH_BYTES, f"rank {rank} has grown by {grown} bytes"
    print(f"soak passed: {lives} lives, {steps} steps, {kills} kills, nothing left behind")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3600.0)
