"""Ranks that do not come are named, and a rank that only takes long is not taken for dead."""

import ctypes
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import ringtree as rt
from contract.attempts import (
    DEAD,
    WITHIN_SECONDS,
    Attempt,
    assert_error,
    attempt,
    ones,
    sleep_when_blocked,
)
from contract.processes import Processes, listen, run_processes, tell
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

everywhere = pytest.mark.parametrize("transport", TRANSPORTS)


def come_too_late(comm: rt.Communicator, latch: threading.Event | None) -> Attempt:
    """The last rank calls only when the others have given up."""
    comm.barrier()
    if comm.rank == comm.world_size - 1:
        assert latch.wait(30) if latch else listen()
    tried = attempt(lambda: comm.all_reduce(ones(), algorithm="ring"))
    if comm.rank == 0:
        if latch:
            latch.set()
        else:
            tell("gave up")
    return tried


def assert_told_of_the_late_rank(tried: Sequence[Attempt]) -> None:
    for rank, one in enumerate(tried):
        assert_error(
            one.error,
            rt.Timeout,
            f"rank {rank}, all_reduce #2 (float32 x 8, sum, ring): all_reduce #2 (float32 x 8, sum, ring) "
            f"was not complete after 0.5 s: rank 2 has not called it. {DEAD}",
            ranks=(2,),
        )
        assert isinstance(one.error, TimeoutError)
    assert all(0.4 < one.seconds < 0.5 + WITHIN_SECONDS for one in tried[:-1])
    assert tried[-1].seconds < WITHIN_SECONDS


def test_a_rank_that_does_not_come_is_named_by_the_timeout() -> None:
    with Processes(3, come_too_late, None, options={"timeout": 0.5}) as ranks:
        assert ranks.hear(0) == "gave up"
        ranks.say(2, True)
        assert_told_of_the_late_rank([outcome.result() for outcome in ranks.outcomes()])


def test_a_thread_that_does_not_come_is_named_by_the_timeout() -> None:
    assert_told_of_the_late_rank(rt.run_local(3, come_too_late, threading.Event(), timeout=0.5))


def wait_for_nothing(comm: rt.Communicator) -> Attempt:
    comm.barrier()
    if comm.rank == 0:
        return attempt(lambda: comm.recv(ones(), 1))
    return attempt(lambda: comm.all_reduce(ones(), algorithm="ring"))


@everywhere
def test_calls_that_wait_for_different_things_time_out(transport: str) -> None:
    def run() -> list[Attempt]:
        if transport == "threads":
            return rt.run_local(2, wait_for_nothing, timeout=0.5)
        options = {"timeout": 0.5, "transport": transport}
        return [outcome.result() for outcome in run_processes(2, wait_for_nothing, options=options)]

    for rank, tried in enumerate(run()):
        call = ("recv #1 from rank 1 (float32 x 8)", "all_reduce #2 (float32 x 8, sum, ring)")[rank]
        assert_error(tried.error, rt.Timeout, f"rank {rank}, {call}: ", " 0.5 s", DEAD)
        assert len(tried.error.ranks) == 1
        assert tried.seconds < 0.5 + WITHIN_SECONDS


def wait_in_vain_then_again(comm: rt.Communicator) -> tuple[Attempt, Any]:
    """Rank 0 waits briefly for a call that rank 1 makes only then."""
    x = ones()
    if comm.rank == 1:
        comm.recv(ones(), 0)
        comm.all_reduce(x, algorithm="ring")
        return Attempt(None, 0, 0), x
    work = comm.all_reduce(x, algorithm="ring", async_op=True)
    assert work is not None
    tried = attempt(lambda: work.wait(timeout=0.05))
    assert not work.done()
    comm.send(ones(), 1)
    work.wait(timeout=30)
    assert work.done()
    return tried, x


@everywhere
def test_a_wait_with_a_time_of_its_own_ends_the_wait_and_not_the_call(transport: str) -> None:
    (tried, mine), (_, other) = run_everywhere(transport, 2, wait_in_vain_then_again)
    assert_error(
        tried.error,
        rt.Timeout,
        "rank 0, all_reduce #1 (float32 x 8, sum, ring) was not finished within the 0.05 s ",
        "that wait() was given",
        "the communicator stays usable",
    )
    assert (mine == 2).all()
    assert (other == 2).all()


def hold_the_interpreter(seconds: float) -> None:
    """A call into C that does not let other threads of this interpreter run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def compute_for_long(comm: rt.Communicator) -> Any:
    if comm.rank == 1:
        hold_the_interpreter(1.0)
    x = ones()
    comm.all_reduce(x)
    return x


@everywhere
def test_a_rank_that_computes_for_long_is_slow_and_not_dead(transport: str) -> None:
    for x in run_everywhere(transport, 3, compute_for_long):
        assert (x == 3).all()


def compute_while_a_call_is_under_way(comm: rt.Communicator, computing: int) -> float:
    """When this rank was done: with the call, or with what it computes while the call is under way."""
    x = ones()
    if comm.rank != computing:
        listen()
        comm.all_reduce(x, algorithm="ring")
        return time.monotonic()
    work = comm.all_reduce(x, algorithm="ring", async_op=True)
    tell("computing")
    hold_the_interpreter(1.5)
    done = time.monotonic()
    assert work is not None
    work.wait()
    return done


@pytest.mark.parametrize("computing", [0, 1])
def test_a_call_goes_on_while_its_rank_computes(computing: int) -> None:
    with Processes(2, compute_while_a_call_is_under_way, computing) as ranks:
        assert ranks.hear(computing) == "computing"
        sleep_when_blocked(ranks.pids[computing], naps=5)
        ranks.say(1 - computing)
        ended = [outcome.result() for outcome in ranks.outcomes()]
    assert ended[1 - computing] < ended[computing]
