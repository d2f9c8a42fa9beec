"""Thousands of random collectives and messages in flight, on several communicators at once, all checked.

Every rank works through the same random plan. A step belongs to one kind of group (all ranks, the odd and the
even ones, two halves, all in reverse order), and is a collective of that group, or a message between two of
its ranks; it blocks or it does not. Unfinished steps pile up and are waited for in random order. Worlds are
even, so that groups of one kind have one size and all ranks draw the same plan.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.cases import REDUCTIONS, Case, check_rank, forms_of, has_root, input_of, ops_of, start
from contract.reference import any_bytes, supported
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

SEED = None  # set it to the seed that a failure has printed, to make the same plan again
STEPS = {2: 2000, 4: 2000, 8: 1000}  # by world size: eight ranks on a few cores take their time
MOST_IN_FLIGHT = 64
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


def groups_of(comm: rt.Communicator) -> list[rt.Communicator]:
    colors = [0, comm.rank % 2, comm.rank * 2 // comm.world_size, 0]
    keys = [0, 0, 0, -comm.rank]
    groups = [comm.split(color, key) for color, key in zip(colors, keys, strict=True)]
    return [comm, *(group for group in groups if group is not None)]


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
    algorithms = ["auto"] if collective in UNEVEN else ["auto", *rt.algorithms(collective)]
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
    return lambda: check_rank(case, inputs, comm.rank, started.finish())


def work_through_plan(comm: rt.Communicator, seed: int) -> int:
    """Returns how many steps were this rank's."""
    groups = groups_of(comm)
    plan = np.random.default_rng(seed)
    order = np.random.default_rng((seed, comm.rank))  # each rank waits in an order of its own
    in_flight: list[Check] = []
    done = 0
    for number in range(STEPS[comm.world_size]):
        group = groups[int(plan.integers(len(groups)))]
        step = random_step(plan, group.world_size, number)
        if step is None:
            work = group.barrier(async_op=bool(number % 2))
            checks: Sequence[Check] = [work.wait] if work is not None else []
        elif isinstance(step, Message):
            checks = list(pass_message(group, step))
        else:
            checks = [make_call(group, step)]
        in_flight += checks
        done += len(checks)
        while len(in_flight) > order.integers(MOST_IN_FLIGHT):
            in_flight.pop(int(order.integers(len(in_flight))))()
    for check in in_flight:
        check()
    for group in groups[1:]:
        group.close()
    return done


@pytest.mark.parametrize("world", STEPS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_thousands_of_random_calls_in_flight_are_all_right(transport: str, world: int) -> None:
    seed = secrets.randbits(32) if SEED is None else SEED
    print(f"SEED = {seed}")
    assert all(done > STEPS[world] / 2 for done in run_everywhere(transport, world, work_through_plan, seed))
