"""A call on the GPU waits for a rank that is late, and the timeout names one that does not come."""

import re
import threading

import numpy as np
import ringtree as rt
from contract.attempts import DEAD, WITHIN_SECONDS, Attempt, assert_error
from contract.processes import listen, tell
from gpu.attempts import Call, on_the_way, sum_of_ranks, warm
from gpu.memory import ones
from gpu.worlds import in_threads_and_processes, run_threads, start_processes


def come_too_late(comm: rt.Communicator, latch: threading.Event | None, ahead: int) -> Attempt:
    """The last rank calls only when the others have given up."""
    warm(comm)
    calls: list[Call] = [lambda comm: comm.all_reduce(x)] * ahead
    x = ones()
    if comm.rank == comm.world_size - 1:
        assert latch.wait(30) if latch else listen()
    tried = on_the_way(comm, *calls)
    if comm.rank == 0:
        if latch:
            latch.set()
        else:
            tell("gave up")
    return tried


def run_come_too_late(where: str, ahead: int) -> list[Attempt]:
    if where == "threads":
        return run_threads(3, come_too_late, threading.Event(), ahead, timeout=1)
    with start_processes(3, come_too_late, None, ahead, options={"timeout": 1}) as ranks:
        assert ranks.hear(0) == "gave up"
        ranks.say(2, True)
        return [outcome.result() for outcome in ranks.outcomes()]


@in_threads_and_processes
def test_a_rank_that_does_not_come_is_named_by_the_timeout(where: str) -> None:
    for rank, one in enumerate(run_come_too_late(where, 1)):
        assert_error(one.error, rt.Timeout, f"rank {rank}, ", "was not complete after 1 s", DEAD, ranks=(2,))
        assert re.search(
            r"all_reduce #\d+ \(float32 x 8, sum, \w+( or zero_copy)?, on the GPU\) was not", str(one.error)
        )
        assert "rank 2 has not called it" in str(one.error)
        assert one.seconds < 1 + WITHIN_SECONDS
    assert run_threads(3, sum_of_ranks) == [3.0] * 3  # the device is as good as before


@in_threads_and_processes
def test_a_rank_that_is_far_behind_is_named_by_the_timeout(where: str) -> None:
    """The board has no record any more of the call that the others wait in."""
    for rank, one in enumerate(run_come_too_late(where, 150)):
        assert_error(one.error, rt.Timeout, f"rank {rank}, ", "was not complete after 1 s", DEAD, ranks=(2,))
        assert re.search(
            r"(call #\d+ on the GPU|all_reduce #\d+ \(float32 x 8, sum, .*\)) was not", str(one.error)
        )
        assert "rank 2 has not called it" in str(one.error)


def wait_in_vain_then_again(comm: rt.Communicator, latch: threading.Event) -> Attempt | None:
    """Rank 0 waits briefly for a call that rank 1 makes only then."""
    warm(comm)
    x = ones()
    if comm.rank == 1:
        assert latch.wait(30)
        comm.all_reduce(x)
        return None
    comm.all_reduce(x)
    assert x.whole is not None
    latch.set()
    comm.synchronize()
    return Attempt(None, 0, float(np.asarray(x)[0]))


def test_a_rank_that_is_late_is_waited_for() -> None:
    tried, _ = run_threads(2, wait_in_vain_then_again, threading.Event())
    assert tried is not None
    assert tried.ended == 2
