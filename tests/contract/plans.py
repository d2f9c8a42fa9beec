"""Random calls, for tests that make thousands of them: the same plan on every rank, each result checked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ringtree as rt
from contract.cases import (
    REDUCTIONS,
    Case,
    check_rank,
    expected_of,
    forms_of,
    has_root,
    input_of,
    ops_of,
    start,
)
from contract.reference import any_bytes, supported

UNEVEN = ("all_gather_v", "reduce_scatter_v", "all_to_all_v")
COLLECTIVES = (*rt.COLLECTIVES, *UNEVEN)


@dataclass(frozen=True)
class Message:
    """From one rank of a group to another; or from each to the one `distance` behind it, by sendrecv."""

    sender: int
    receiver: int
    distance: int
    dtype: str
    count: int
    blocks: bool
    seed: int

    def content(self, sender: int) -> Any:
        return any_bytes(np.random.default_rng((self.seed, sender)), self.dtype, self.count)


def random_step(generator: np.random.Generator, world: int, number: int) -> Case | Message | None:
    """What a group of `world` ranks does, the same for each rank; None: a barrier."""
    count = int(generator.integers(300) if generator.random() < 0.97 else generator.integers(60_000))
    dtype, op = str(generator.choice(rt.DTYPES)), "sum"
    if generator.random() < 0.3:
        sender, receiver = (int(rank) for rank in generator.permutation(world)[:2]) if world > 1 else (0, 0)
        distance = int(generator.integers(world)) if generator.random() < 0.5 else 0
        return Message(sender, receiver, distance, dtype, count, bool(generator.random() < 0.5), number)
    collective = str(generator.choice(COLLECTIVES))
    if collective == "barrier":
        return None
    if collective in REDUCTIONS:
        op = str(generator.choice([op for op in ops_of(collective) if supported(op, dtype)]))
    algorithms = ["auto"] if collective in UNEVEN else ["auto", *rt.algorithms(collective), rt.ZERO_COPY]
    return Case(
        collective,
        str(generator.choice(algorithms)),
        dtype,
        count,
        op,
        str(generator.choice(forms_of(collective))),
        int(generator.integers(world)) if has_root(collective) else 0,
        tuple(int(share) for share in generator.integers(300, size=world)) if collective in UNEVEN else (),
        seed=number,
    )


Check = Callable[[], None]


def pass_message(comm: rt.Communicator, message: Message) -> Iterator[Check]:
    """Starts this rank's part, if it has one; what is yielded waits for it and looks at what has come."""
    rank, world = comm.rank, comm.world_size
    if message.distance:
        to, source = (rank + message.distance) % world, (rank - message.distance) % world
    else:
        to, source = message.receiver, message.sender
    if to == source == rank or (not message.distance and rank not in (to, source)):
        return
    asynchronous = not message.blocks
    received = np.ones_like(message.content(source))
    if message.distance:
        work = comm.sendrecv(message.content(rank), received, to=to, source=source, async_op=asynchronous)
    elif rank == source:
        work = comm.send(message.content(rank), to, async_op=asynchronous)
    else:
        work = comm.recv(received, source, async_op=asynchronous)

    def check() -> None:
        if work is not None:
            work.wait()
        if message.distance or rank == to:
            assert received.tobytes() == message.content(source).tobytes(), f"rank {rank}: {message} is wrong"

    yield check


def make_call(comm: rt.Communicator, case: Case) -> Check:
    started = start(comm, case, input_of(case, comm.rank, comm.world_size))
    inputs = [input_of(case, rank, comm.world_size) for rank in range(comm.world_size)]
    expected = expected_of(case, inputs)[comm.rank]
    return lambda: check_rank(case, inputs, comm.rank, started.finish(), expected)
