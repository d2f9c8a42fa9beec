"""Calls on the CPU and on the GPU, on one communicator or on several, run in the order in which they are made."""

import time
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import DEAD, Attempt, assert_error
from gpu.attempts import Call, on_the_way, sum_of_ranks, warm
from gpu.memory import on_gpu, ones
from gpu.worlds import in_threads_and_processes, run_everywhere


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


def one_way_first(comm: rt.Communicator, name: str) -> float:
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
    assert run_everywhere(where, 3, one_way_first, name) == [3.0] * 3


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
