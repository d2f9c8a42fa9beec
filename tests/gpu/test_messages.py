"""send, recv and sendrecv of arrays on a GPU."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import Attempt, assert_error, attempt
from contract.processes import tell
from contract.reference import NUMPY_TYPES
from gpu.memory import empty, on_gpu, ones
from gpu.worlds import everywhere, run_everywhere, run_threads, start_processes
from ringtree.snapshots import parse
from ringtree.story import tell as tell_story

WITHIN_SECONDS = 1.0
in_threads_and_processes = pytest.mark.parametrize("where", everywhere)

# From nothing to more than all slots of all channels hold.
SIZES = (0, 1, 7, 40, 41, 4096, 100_003, 3_000_001)


def values(sender: int, number: int, count: int, dtype: str = "uint8") -> Any:
    """What no other message holds."""
    return np.random.default_rng([sender, number]).integers(0, 100, count).astype(NUMPY_TYPES[dtype])


def send_every_size(comm: rt.Communicator, sizes: tuple[int, ...]) -> None:
    """From each rank in turn to each other one."""
    comm.barrier()
    for sender in range(comm.world_size):
        for receiver in range(comm.world_size):
            for number, count in enumerate(sizes):
                if comm.rank == sender != receiver:
                    comm.send(on_gpu(values(sender, number, count)), receiver)
                elif comm.rank == receiver != sender:
                    arrived = empty(count, "uint8")
                    comm.recv(arrived, sender)
                    assert (np.asarray(arrived) == values(sender, number, count)).all()


@in_threads_and_processes
@pytest.mark.parametrize("world", [2, 3])
def test_what_is_sent_arrives(where: str, world: int) -> None:
    run_everywhere(where, world, send_every_size, SIZES)


def send_every_dtype(comm: rt.Communicator) -> None:
    for number, dtype in enumerate(NUMPY_TYPES):
        mine = values(comm.rank, number, 33, dtype)
        arrived = empty(33, NUMPY_TYPES[dtype], skipped=1)
        comm.sendrecv(on_gpu(mine), arrived, to=1 - comm.rank, source=1 - comm.rank)
        assert np.asarray(arrived).tobytes() == values(1 - comm.rank, number, 33, dtype).tobytes()


def test_all_dtypes() -> None:
    run_threads(2, send_every_dtype)


def pass_round(comm: rt.Communicator, count: int) -> None:
    """Large arrays in a circle, with collectives in between."""
    following, before = (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size
    held = on_gpu(values(comm.rank, 0, count))
    for step in range(1, comm.world_size + 1):
        arrived = empty(count, "uint8")
        comm.sendrecv(held, arrived, to=following, source=before)
        held = arrived
        origin = (comm.rank - step) % comm.world_size
        total = on_gpu(np.ones(50, np.float32))
        comm.all_reduce(total)
        assert (np.asarray(held) == values(origin, 0, count)).all()
        assert (np.asarray(total) == comm.world_size).all()


@in_threads_and_processes
@pytest.mark.parametrize("world", [2, 3, 5, 8])
def test_a_circle(where: str, world: int) -> None:
    run_everywhere(where, world, pass_round, 700_001 if world < 5 else 70_001)


def two_ways(comm: rt.Communicator) -> None:
    """To one rank, from another one; both in one call."""
    to, source = (comm.rank + 1) % 3, (comm.rank + 2) % 3
    small, large = empty(10, "uint8"), empty(400_000, "uint8")
    comm.sendrecv(on_gpu(values(comm.rank, 1, 10)), small, to=to, source=source)
    comm.sendrecv(on_gpu(values(comm.rank, 2, 400_000)), large, to=source, source=to)
    assert (np.asarray(small) == values(source, 1, 10)).all()
    assert (np.asarray(large) == values(to, 2, 400_000)).all()


def test_both_directions() -> None:
    run_threads(3, two_ways)


def without_a_collective(comm: rt.Communicator) -> str:
    """The first call on a GPU opens the fabric, whichever it is."""
    x = on_gpu(values(comm.rank, 0, 9)) if comm.rank == 0 else empty(9, "uint8")
    work = comm.send(x, 1, async_op=True) if comm.rank == 0 else comm.recv(x, 0, async_op=True)
    assert work is not None
    work.wait()
    comm.synchronize()
    return str(np.asarray(x).tolist())


def test_they_may_come_first_and_async() -> None:
    assert run_threads(2, without_a_collective) == [str(values(0, 0, 9).tolist())] * 2


# What goes wrong


def told(comm: rt.Communicator, *calls: Callable[[], Any]) -> Attempt:
    """With the fabric open."""
    comm.all_reduce(ones())
    comm.synchronize()
    comm.barrier()

    def run() -> None:
        for call in calls:
            call()
        comm.synchronize()

    return attempt(run)


def differ(comm: rt.Communicator, sent: tuple[int, str], received: tuple[int, str]) -> Attempt:
    if comm.rank == 0:
        return told(comm, lambda: comm.send(ones(*sent), 1), lambda: comm.all_reduce(ones()))
    return told(comm, lambda: comm.recv(ones(*received), 0), lambda: comm.all_reduce(ones()))


@in_threads_and_processes
@pytest.mark.parametrize(
    ("sent", "received"),
    [((8, "float32"), (9, "float32")), ((8, "float32"), (8, "int32")), ((500_000, "int8"), (8, "int8"))],
)
def test_another_size_or_dtype_is_a_mismatch(where: str, sent: Any, received: Any) -> None:
    for one in run_everywhere(where, 2, differ, sent, received):
        assert_error(
            one.error,
            rt.Mismatch,
            f"rank 0 sent {sent[1]} x {sent[0]} to rank 1, which receives {received[1]} x {received[0]}.",
            ranks=(0, 1),
        )


def collective_for_message(comm: rt.Communicator) -> Attempt:
    if comm.rank == 0:
        return told(comm, lambda: comm.all_reduce(ones(100_000), algorithm="ring"))
    return told(comm, lambda: comm.recv(ones(100_000), 0))


@in_threads_and_processes
def test_a_collective_where_a_message_was_due_is_a_mismatch(where: str) -> None:
    tried = run_everywhere(where, 2, collective_for_message)
    for one in tried:
        assert_error(
            one.error, rt.Mismatch, "rank 0 sent another thing than recv #1 from rank 0", ranks=(0, 1)
        )


def nobody_answers(comm: rt.Communicator, outgoing: bool) -> Attempt:
    x = ones(5_000_000)
    if comm.rank == 1:
        return told(comm, lambda: comm.send(x, 0) if outgoing else comm.recv(x, 0))

    def look() -> None:
        while True:  # ends with the fault
            comm.synchronize()
            time.sleep(0.001)

    return told(comm, look)


@in_threads_and_processes
@pytest.mark.parametrize("outgoing", [True, False])
def test_a_message_without_a_counterpart_times_out(where: str, outgoing: bool) -> None:
    tried = run_everywhere(where, 2, nobody_answers, outgoing, timeout=1)
    call = "send #1 to" if outgoing else "recv #1 from"
    assert_error(
        tried[1].error,
        rt.Timeout,
        f"{call} rank 0 (float32 x 5000000, on the GPU) was not answered within 1 s: rank 0 has not made the "
        "matching call.",
    )


def leave(comm: rt.Communicator, outgoing: bool) -> Attempt:
    """Rank 1 leaves; rank 0 has got all that it sent, and waits for more."""
    x = ones(5_000_000)
    if comm.rank == 1:
        last = told(comm, lambda: comm.send(ones(), 0))
        comm.close()
        return last
    return told(comm, lambda: comm.recv(ones(), 1), lambda: comm.send(x, 1) if outgoing else comm.recv(x, 1))


@in_threads_and_processes
@pytest.mark.parametrize("outgoing", [True, False])
def test_a_rank_that_leaves_is_named(where: str, outgoing: bool) -> None:
    survivor, left = run_everywhere(where, 2, leave, outgoing)
    assert left.error is None
    call = "send #1 to" if outgoing else "recv #2 from"
    assert_error(
        survivor.error, rt.RankFailure, f"rank 1 closed the communicator while {call} rank 1", ranks=(1,)
    )
    assert survivor.seconds < WITHIN_SECONDS


def leave_in_peace(comm: rt.Communicator) -> None:
    """Rank 2 has no part in what the others still do."""
    comm.barrier()
    x = ones(5_000_000)
    comm.all_reduce(ones())
    if comm.rank == 2:
        return
    for _ in range(3):
        comm.send(x, 1) if comm.rank == 0 else comm.recv(x, 0)
    comm.synchronize()


@in_threads_and_processes
def test_a_rank_that_has_no_part_may_leave(where: str) -> None:
    run_everywhere(where, 3, leave_in_peace)


def die(comm: rt.Communicator, outgoing: bool) -> Attempt:
    x = ones(5_000_000)
    if comm.rank == 1:
        comm.all_reduce(ones())
        comm.synchronize()
        comm.barrier()
        tell("here")
        os.kill(os.getpid(), signal.SIGKILL)
    return told(comm, lambda: comm.send(x, 1) if outgoing else comm.recv(x, 1))


@pytest.mark.parametrize("outgoing", [True, False])
def test_a_rank_that_dies_is_named(outgoing: bool) -> None:
    with start_processes(2, die, outgoing) as ranks:
        survivor = ranks.outcomes()[0].result()
    assert_error(survivor.error, rt.RankFailure, "rank 1 died (the process has ended) while", ranks=(1,))
    assert survivor.seconds < WITHIN_SECONDS


def look_from_outside(comm: rt.Communicator) -> str:
    """The recorder knows what waits on the GPU."""
    comm.all_reduce(ones())
    comm.synchronize()
    if comm.rank == 0:
        comm.recv(empty(8, "float32"), 1)
    comm.barrier()
    story = " ".join(tell_story([parse(comm._core.snapshot())]))
    comm.barrier()
    if comm.rank == 1:
        comm.send(ones(), 0)
    comm.synchronize()
    return story


def test_a_dump_names_what_waits() -> None:
    for story in run_threads(2, look_from_outside):
        assert "rank 0 waits in recv #1 from rank 1 (float32 x 8, on the GPU)" in story
        assert "rank 1 has made 0 matching calls" in story
