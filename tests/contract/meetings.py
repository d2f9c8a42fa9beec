"""What ranks run in the tests of barrier, send, recv and sendrecv; each looks at what it gets itself."""

import time

import numpy as np
import ringtree as rt
from contract.cases import same_bits
from contract.reference import Array, any_bytes

MEETINGS = 50
MESSAGE_SIZES = (0, 1, 5, 8, 1001, 100_003)  # the last needs more than all slots of a pair hold


def arrivals_and_departures(comm: rt.Communicator, algorithm: str) -> list[tuple[float, float]]:
    """When this rank came to each barrier and when it left; the clock is that of the whole machine."""
    times = []
    generator = np.random.default_rng(comm.rank)
    for _ in range(MEETINGS):
        generator.random(generator.integers(1, 20_000))  # ranks come at different times
        arrival = time.monotonic()
        work = comm.barrier(algorithm=algorithm, async_op=bool(len(times) % 2))
        if work is not None:
            work.wait()
        times.append((arrival, time.monotonic()))
    return times


def message(sender: int, receiver: int, number: int) -> Array:
    """The message of that number between two ranks; types and sizes take turns, each with each other."""
    generator = np.random.default_rng((sender, receiver, number))
    size = MESSAGE_SIZES[number % len(MESSAGE_SIZES)]
    return any_bytes(generator, rt.DTYPES[number % len(rt.DTYPES)], size)


def exchange_messages(comm: rt.Communicator) -> bool:
    """Round a ring, then in pairs, then with everything in flight at once; between all pairs of ranks."""
    me, world = comm.rank, comm.world_size
    numbers = range(len(rt.DTYPES) * len(MESSAGE_SIZES))  # coprime, so that all pairs occur
    peers = [peer for peer in range(world) if peer != me]
    received: dict[tuple[int, int], Array] = {}

    def fresh(peer: int, number: int) -> Array:
        array = np.empty_like(message(peer, me, number))
        array.view(np.uint8)[:] = 1
        return received.setdefault((peer, number), array)

    def check_all() -> None:
        for (peer, number), array in received.items():
            assert same_bits(array, message(peer, me, number)), (
                f"rank {me}: message {number} of rank {peer} is wrong"
            )
        received.clear()

    if peers:
        for number in numbers:
            after, before = (me + 1) % world, (me - 1) % world
            comm.sendrecv(message(me, after, number), fresh(before, number), to=after, source=before)
        check_all()
    for number in numbers:
        for peer in peers:
            if me < peer:
                comm.send(message(me, peer, number), peer)
                comm.recv(fresh(peer, number), peer)
            else:
                comm.recv(fresh(peer, number), peer)
                comm.send(message(me, peer, number), peer)
    check_all()
    works = [
        comm.send(message(me, peer, number), peer, async_op=True) for number in numbers for peer in peers
    ]
    works += [
        comm.recv(fresh(peer, number), peer, async_op=True) for number in numbers for peer in reversed(peers)
    ]
    for work in works:
        assert work is not None
        work.wait()
    check_all()
    return True
