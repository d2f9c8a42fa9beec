"""A rank that dies, leaves or gives up ends the calls of the others on the GPU soon, and is named."""

import re
import signal
import time
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import DEAD, WITHIN_SECONDS, Attempt, assert_error, attempt
from contract.killed import kill_in_the_middle
from contract.processes import tell
from gpu.attempts import OPENING_CALLS, on_the_way, sum_of_ranks, warm
from gpu.memory import on_gpu, ones
from gpu.worlds import in_threads_and_processes, run_everywhere, run_threads, start_processes


def call_until_killed(size: int, algorithm: str) -> tuple[Attempt, tuple[int, int, float]]:
    """What a survivor is told of, and then: its new rank, world and a result."""
    comm = rt.init(timeout=30)
    x = on_gpu(np.ones(size, np.float32))
    comm.all_reduce(x)
    comm.synchronize()
    tried = on_the_way(comm, *[lambda comm: comm.all_reduce(x, algorithm=algorithm)] * 10)
    smaller = comm.shrink()
    with smaller:
        return tried, (smaller.rank, smaller.world_size, sum_of_ranks(smaller))


@pytest.mark.parametrize(
    ("size", "algorithm"),
    [(1000, "auto"), (300_000, "auto"), *((20_000, name) for name in rt.algorithms("all_reduce"))],
)
@pytest.mark.parametrize("at", ["", ",at=middle"])
def test_a_rank_killed_in_a_call_is_named_and_the_survivors_go_on(at: str, size: int, algorithm: str) -> None:
    faults = {"RINGTREE_FAULT": f"rank=1,op=all_reduce,seq={OPENING_CALLS + 2},kind=kill{at}"}
    with start_processes(3, call_until_killed, size, algorithm, joined=False, environment=faults) as ranks:
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for rank, outcome in enumerate(outcomes):
        tried, after = outcome.result()
        assert_error(tried.error, rt.RankFailure, f"rank {(0, 2)[rank]}, ", "rank 1 died", DEAD, ranks=(1,))
        assert tried.seconds < WITHIN_SECONDS
        assert after == (rank, 2, 1.0)


def kill_the_first_call(comm: rt.Communicator) -> Attempt:
    return on_the_way(comm, lambda comm: comm.all_reduce(ones()))


def test_the_number_of_a_fault_is_that_of_the_messages() -> None:
    """Also of a communicator's first call on the GPU, which makes calls of its own."""
    with start_processes(2, kill_the_first_call, options={"timeout": 1}) as ranks:
        outcomes = ranks.outcomes()
    assert [outcome.result().error for outcome in outcomes] == [None, None]
    numbers = set()
    for number in range(1, OPENING_CALLS + 2):
        faults = {"RINGTREE_FAULT": f"rank=1,op=all_reduce,seq={number},kind=kill"}
        with start_processes(2, kill_the_first_call, environment=faults) as ranks:
            survivor, victim = ranks.outcomes()
        if victim.exitcode == -signal.SIGKILL:
            found = re.search(r"all_reduce #(\d+)", str(survivor.result().error))
            assert found is not None
            numbers.add((number, int(found[1])))
    assert len(numbers) == 1
    [(asked, told)] = numbers
    assert asked == told


def call_for_ever(comm: rt.Communicator) -> Attempt:
    x = on_gpu(np.ones(100_000, np.float32))

    def run() -> None:
        for number in range(1_000_000):
            comm.all_reduce(x)
            if number % 10 == 0:
                comm.synchronize()
            if number == 20:
                tell("in the middle")

    return attempt(run)


@pytest.mark.parametrize("world", [2, 4])
def test_a_rank_killed_from_outside_is_named_within_a_second(world: int) -> None:
    with start_processes(world, call_for_ever) as ranks:
        kill_in_the_middle(ranks, world, 1, "rank 1 died (the process has ended) while", DEAD)


def wait_for_the_victim(size: int) -> tuple[Attempt, tuple[int, int, float]]:
    """The survivors' kernels have been launched, and cannot end: rank 1 never makes that call."""
    comm = rt.init(timeout=30)
    x = on_gpu(np.ones(size, np.float32))

    def run() -> None:
        for _ in range(3):
            comm.all_reduce(x)
            comm.synchronize()
        if comm.rank != 1:
            comm.all_reduce(x)
        tell("in the middle")
        if comm.rank == 1:
            signal.pause()
        comm.synchronize()

    tried = attempt(run)
    with comm.shrink() as smaller:
        return tried, (smaller.rank, smaller.world_size, sum_of_ranks(smaller))


@pytest.mark.parametrize("size", [1000, 300_000])
def test_of_four_ranks_one_is_killed_while_kernels_wait_for_it_and_three_go_on(size: int) -> None:
    with start_processes(4, wait_for_the_victim, size, joined=False) as ranks:
        results = kill_in_the_middle(
            ranks,
            4,
            1,
            "rank 1 died (the process has ended) while",
            DEAD,
            attempt_of=lambda result: result[0],
        )
    assert [after for _, after in results] == [(0, 3, 3.0), (1, 3, 3.0), (2, 3, 3.0)]


def stop_one(comm: rt.Communicator, how: str) -> Attempt:
    warm(comm)
    if comm.rank == 1:
        return attempt(lambda: comm.abort("enough seen") if how == "aborts" else comm.close())
    return on_the_way(comm, lambda comm: comm.all_reduce(ones()))


@in_threads_and_processes
def test_an_abort_ends_the_calls_of_all(where: str) -> None:
    tried = run_everywhere(where, 3, stop_one, "aborts")
    assert tried.pop(1).error is None
    for one in tried:
        assert_error(one.error, rt.Aborted, "rank 1 aborted the communicator: enough seen", DEAD, ranks=(1,))
        assert one.seconds < WITHIN_SECONDS


@in_threads_and_processes
def test_a_rank_that_leaves_early_is_named(where: str) -> None:
    tried = run_everywhere(where, 3, stop_one, "leaves")
    assert tried.pop(1).error is None
    for one in tried:
        assert_error(one.error, rt.RankFailure, "rank 1 closed the communicator while", DEAD, ranks=(1,))
        assert one.seconds < WITHIN_SECONDS


def raise_in_one(comm: rt.Communicator) -> Any:
    warm(comm)
    if comm.rank == 1:
        raise LookupError("no such sample")
    tried = on_the_way(comm, lambda comm: comm.all_reduce(ones()))
    assert_error(tried.error, rt.Aborted, "LookupError: no such sample")


def test_a_thread_that_raises_ends_the_calls_of_the_others() -> None:
    began = time.monotonic()
    with pytest.raises(LookupError):
        run_threads(3, raise_in_one)
    assert time.monotonic() - began < 5
