"""What goes wrong between ranks on the GPU is told to each of them, in the words of the CPU, and soon."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import DEAD, WITHIN_SECONDS, Attempt, assert_error, attempt
from contract.processes import listen, tell
from gpu.memory import on_gpu, ones
from gpu.worlds import everywhere, run_everywhere, run_threads, start_processes

in_threads_and_processes = pytest.mark.parametrize("where", everywhere)
Call = Callable[[rt.Communicator], object]


def sum_of_ranks(comm: rt.Communicator) -> float:
    """On the GPU and on the CPU."""
    x, host = on_gpu(np.full(1000, comm.rank, np.float64)), np.full(1000, comm.rank, np.float64)
    comm.all_reduce(x)
    comm.all_reduce(host)
    assert (np.asarray(x) == host).all()
    return float(host[0])


# What hosts tell each other when a process's first call on the GPU opens the fabric: these have numbers, too.
OPENING_CALLS = 5


def warm(comm: rt.Communicator) -> None:
    """Opens the fabric, so that what follows is a call like any other; returns when all have come so far."""
    comm.all_reduce(ones())
    comm.synchronize()
    comm.barrier()


def on_the_way(comm: rt.Communicator, *calls: Call) -> Attempt:
    """Makes the calls and waits for them."""

    def run() -> None:
        for call in calls:
            call(comm)
        comm.synchronize()

    return attempt(run)


# Different calls


@dataclass(frozen=True)
class Difference:
    """The last rank's call differs from what the others call."""

    most: Call
    last: Call
    most_described: str
    last_described: str


DIFFERENCES = {
    "collective": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.broadcast(ones()),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"broadcast #\d+ \(float32 x 8, root 0, ",
    ),
    "barrier": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.barrier(),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"barrier #\d+ \(",
    ),
    "size": Difference(
        lambda comm: comm.all_reduce(ones(1000)),
        lambda comm: comm.all_reduce(ones(1001)),
        r"all_reduce #\d+ \(float32 x 1000, sum, ",
        r"all_reduce #\d+ \(float32 x 1001, sum, ",
    ),
    "size, far apart": Difference(
        lambda comm: comm.all_reduce(ones(500_000)),
        lambda comm: comm.all_reduce(ones(1)),
        r"all_reduce #\d+ \(float32 x 500000, sum, ",
        r"all_reduce #\d+ \(float32 x 1, sum, ",
    ),
    "dtype": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.all_reduce(ones(8, "int32")),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"all_reduce #\d+ \(int32 x 8, sum, ",
    ),
    "op": Difference(
        lambda comm: comm.all_reduce(ones(), "sum"),
        lambda comm: comm.all_reduce(ones(), "max"),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"all_reduce #\d+ \(float32 x 8, max, ",
    ),
    "root": Difference(
        lambda comm: comm.broadcast(ones(), 0),
        lambda comm: comm.broadcast(ones(), comm.world_size - 1),
        r"broadcast #\d+ \(float32 x 8, root 0, ",
        r"broadcast #\d+ \(float32 x 8, root [12], ",
    ),
    "algorithm": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(), algorithm="two_shot"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
        r"all_reduce #\d+ \(float32 x 8, sum, two_shot, on the GPU\)",
    ),
    "place": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.all_reduce(np.ones(8, np.float32), algorithm="ring"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
        r"all_reduce #\d+ \(float32 x 8, sum, ring\)",
    ),
    "place, the other way round": Difference(
        lambda comm: comm.all_reduce(np.ones(8, np.float32), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring\)",
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
    ),
}


def make_different_calls(comm: rt.Communicator, name: str) -> tuple[Attempt, Attempt]:
    """Calls what differs, then what all call; then once more, when all is over."""
    warm(comm)
    difference = DIFFERENCES[name]
    call = difference.last if comm.rank == comm.world_size - 1 else difference.most
    first = on_the_way(comm, call, lambda comm: comm.all_reduce(ones()))
    return first, on_the_way(comm, lambda comm: comm.all_reduce(ones()))


@pytest.mark.parametrize("world", [2, 3])
@in_threads_and_processes
@pytest.mark.parametrize("name", DIFFERENCES)
def test_different_calls_are_a_mismatch_that_names_both_on_every_rank(
    name: str, where: str, world: int
) -> None:
    difference, last = DIFFERENCES[name], world - 1
    for rank, (first, again) in enumerate(run_everywhere(where, world, make_different_calls, name)):
        assert_error(first.error, rt.Mismatch, f"rank {rank}, ", DEAD)
        assert re.search(rf"rank [01] called {difference.most_described}", str(first.error)), first.error
        assert re.search(rf"rank {last} called {difference.last_described}", str(first.error)), first.error
        assert last in first.error.ranks  # type: ignore[union-attr]
        assert first.seconds < WITHIN_SECONDS
        assert type(again.error) is rt.Mismatch
        assert str(again.error).partition(": ")[2] == str(first.error).partition(": ")[2]


# Ranks that do not come


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


# Ranks that die, leave or give up


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
        for rank in range(world):
            assert ranks.hear(rank) == "in the middle"
        killed = time.monotonic()
        os.kill(ranks.pids[1], signal.SIGKILL)
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for outcome in outcomes:
        tried = outcome.result()
        assert_error(
            tried.error, rt.RankFailure, "rank 1 died (the process has ended) while", DEAD, ranks=(1,)
        )
        assert tried.ended - killed < WITHIN_SECONDS


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


# CPU and GPU on one communicator


def alternate(comm: rt.Communicator, seed: int) -> None:
    """Random calls, here and there; results of the GPU are looked at only later."""
    common = np.random.default_rng(seed)
    n, pending = comm.world_size, []
    for _ in range(60):
        count, is_on_gpu, kind = int(common.integers(5000)), common.random() < 0.5, common.integers(4)
        root, is_async = int(common.integers(n)), common.random() < 0.3
        host = np.full(count, comm.rank + 1, np.float32)
        x = on_gpu(host) if is_on_gpu else host
        expected: Any = None
        if kind == 0:
            work = comm.all_reduce(x, async_op=is_async)
            expected = n * (n + 1) / 2
        elif kind == 1:
            work = comm.broadcast(x, root, async_op=is_async)
            expected = root + 1
        elif kind == 2:
            work = comm.reduce(x, root, async_op=is_async)
            expected = n * (n + 1) / 2 if root == comm.rank else comm.rank + 1
        else:
            work = comm.barrier(async_op=is_async)
            expected = comm.rank + 1
        pending.append((work, x, expected))
        if common.random() < 0.2:
            comm.synchronize()
    for work, x, expected in pending:
        if work is not None:
            work.wait()
        assert (np.asarray(x) == expected).all()


@in_threads_and_processes
@pytest.mark.parametrize("seed", range(2))
def test_calls_on_cpu_and_gpu_take_turns(seed: int, where: str) -> None:
    run_everywhere(where, 3, alternate, seed)


ONE_WAY: dict[str, Call] = {
    "broadcast": lambda comm: comm.broadcast(np.ones(4)),
    "reduce": lambda comm: comm.reduce(np.ones(4)),
    "gather": lambda comm: comm.gather(None if comm.rank else np.ones(4 * comm.world_size), np.ones(4)),
    "scatter": lambda comm: comm.scatter(np.ones(4), None if comm.rank else np.ones(4 * comm.world_size)),
}


def one_way_first(comm: rt.Communicator, name: str, seed: int) -> float:
    """Several, so that some ranks are far ahead of others."""
    for number in range(5):
        for _ in range(number):
            ONE_WAY[name](comm)
        if number % comm.world_size == comm.rank:
            time.sleep(0.01)
        result = sum_of_ranks(comm)
    return result


@in_threads_and_processes
@pytest.mark.parametrize("name", ONE_WAY)
def test_one_way_calls_on_the_cpu_may_come_before_calls_on_the_gpu(name: str, where: str) -> None:
    assert run_everywhere(where, 3, one_way_first, name, 0) == [3.0] * 3


def different_roots_then_gpu(comm: rt.Communicator) -> Attempt:
    warm(comm)
    root = comm.world_size - 1 if comm.rank == comm.world_size - 1 else 0
    return on_the_way(
        comm, lambda comm: comm.broadcast(np.ones(4), root), lambda comm: comm.all_reduce(ones())
    )


@in_threads_and_processes
def test_what_differed_before_on_the_cpu_is_found_by_a_call_on_the_gpu(where: str) -> None:
    for tried in run_everywhere(where, 3, different_roots_then_gpu):
        assert_error(tried.error, rt.Mismatch, "broadcast #", DEAD)


def use_groups(comm: rt.Communicator) -> tuple[float, float, float]:
    group, whole = comm.split(comm.rank % 2), comm.split(0, -comm.rank)
    assert group is not None
    assert whole is not None
    results = sum_of_ranks(group), sum_of_ranks(whole), sum_of_ranks(comm)
    x = on_gpu(np.full(100, comm.rank, np.float32))
    group.all_reduce(x)  # three fabrics, one stream
    whole.all_reduce(x)
    comm.all_reduce(x)
    assert (np.asarray(x) == 4 * 2 * sum(range(4))).all()
    group.close()
    assert sum_of_ranks(comm) == results[2]
    return results


@in_threads_and_processes
def test_groups_have_a_fabric_of_their_own(where: str) -> None:
    assert run_everywhere(where, 4, use_groups) == [(1.0, 6.0, 6.0)] * 4


# The end


def close_early(comm: rt.Communicator, late: int) -> None:
    """What has been enqueued is done all the same, though a rank comes late."""
    xs = [on_gpu(np.full(10_000, comm.rank + number, np.float32)) for number in range(10)]
    if comm.rank == late:
        time.sleep(0.2)
    for x in xs:
        comm.all_reduce(x)
    comm.close()
    for number, x in enumerate(xs):
        assert (np.asarray(x) == 3 + 3 * number).all()
    with pytest.raises(rt.InvalidArgument, match="this communicator is closed"):
        comm.all_reduce(xs[0])
    with pytest.raises(rt.InvalidArgument, match="this communicator is closed"):
        comm.synchronize()


@in_threads_and_processes
@pytest.mark.parametrize("late", [0, 2])
def test_close_waits_for_calls_in_flight(late: int, where: str) -> None:
    run_everywhere(where, 3, close_early, late)


def forget_arrays(comm: rt.Communicator) -> None:
    """Arrays go as soon as a call is made with them, while its peers have not come yet."""
    for number in range(20):
        if number % comm.world_size == comm.rank:
            time.sleep(0.01)
        comm.all_reduce(on_gpu(np.ones(1000, np.float32)))
        comm.empty(100, device="cuda")
    assert sum_of_ranks(comm) == 3


@in_threads_and_processes
def test_arrays_may_go_while_calls_with_them_are_under_way(where: str) -> None:
    run_everywhere(where, 3, forget_arrays, timeout=10)
