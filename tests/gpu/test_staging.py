"""GPUs of which not all reach each other's memory: messages go through that of the host, and calls are as ever.

On the emulated device alone, which has as many GPUs as a test wants, and peer access between those that it wants.
"""

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import DEAD, Attempt
from contract.killed import kill_in_the_middle
from contract.processes import run_processes
from gpu import memory
from gpu.devices import emulated
from gpu.memory import on_gpu
from gpu.several import check_every_algorithm, run_on_two_gpus, sit
from gpu.test_failures_death import call_for_ever
from gpu.test_leftovers import (
    assert_nothing_stays,
    assert_steady,
    live_in_groups,
    segments,
    work,
)
from gpu.worlds import everywhere, start_processes, variables

pytestmark = pytest.mark.skipif(emulated() is None, reason="needs GPUs without peer access")

APART = {"RINGTREE_EMULATED_DEVICES": "2", "RINGTREE_EMULATED_ISLAND": "1"}


def run_apart(where: str, world: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    return run_on_two_gpus(where, {**variables(), **APART}, world, function, *args)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("where", everywhere)
@pytest.mark.parametrize("count", [5, 20_000])
def test_every_algorithm_is_right(where: str, world: int, count: int) -> None:
    check_every_algorithm(where, {**variables(), **APART}, world, count, staged=True)


def choose(comm: rt.Communicator) -> list[str]:
    sit(comm)
    with pytest.raises(rt.InvalidArgument, match="no call has been made on a GPU yet"):
        _ = comm.staged
    comm.all_reduce(memory.ones())
    return [comm.chosen(name, 1 << 28, device="cuda") for name in ("all_reduce", "all_gather", "broadcast")]


@pytest.mark.parametrize("where", everywhere)
def test_auto_takes_no_algorithm_that_uses_the_arrays_of_peers(where: str) -> None:
    for chosen in run_apart(where, 2, choose):
        assert rt.ZERO_COPY not in chosen


def reach(comm: rt.Communicator) -> bool:
    comm.all_reduce(memory.ones())
    return comm.staged


@pytest.mark.parametrize("where", everywhere)
def test_ranks_on_one_gpu_do_not_stage(where: str) -> None:
    assert run_apart(where, 2, reach) == [False, False]


def call_for_ever_there(comm: rt.Communicator) -> Attempt:
    sit(comm)
    return call_for_ever(comm)


def test_a_killed_rank_is_named_and_leaves_nothing() -> None:
    names = segments()
    with start_processes(3, call_for_ever_there, environment=APART) as ranks:
        kill_in_the_middle(ranks, 3, 1, "rank 1 died (the process has ended) while", DEAD)
    assert_nothing_stays(names)


def call_until_rank_2_dies(comm: rt.Communicator) -> None:
    x = memory.ones()
    for number in itertools.count():
        comm.all_reduce(x)
        comm.synchronize()
        if comm.rank == 2 and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def shrink(comm: rt.Communicator) -> tuple[bool, float]:
    sit(comm)
    with pytest.raises(rt.RankFailure):
        call_until_rank_2_dies(comm)
    with comm.shrink() as smaller:
        x = on_gpu(np.full(1000, smaller.rank + 1, np.float32))
        smaller.all_reduce(x)
        return smaller.staged, float(np.asarray(x)[0])


def test_the_survivors_go_on() -> None:
    with start_processes(3, shrink, environment=APART) as ranks:
        outcomes = ranks.outcomes()
    assert outcomes.pop().exitcode == -signal.SIGKILL
    assert [outcome.result() for outcome in outcomes] == [(True, 3.0)] * 2


def work_there(comm: rt.Communicator) -> None:
    sit(comm)
    work(comm)
    assert comm.staged


def live_as_threads(_: rt.Communicator) -> None:
    assert_steady(lambda: rt.run_local(2, work_there, device="cuda", timeout=30), ranks=2)


def live_as_processes(comm: rt.Communicator) -> None:
    sit(comm)
    live_in_groups(comm, "work")


@pytest.mark.parametrize(("world", "live"), [(1, live_as_threads), (2, live_as_processes)])
def test_many_communicators_leave_nothing(world: int, live: Callable[..., Any]) -> None:
    names = segments()
    for outcome in run_processes(world, live, environment={**variables(), **APART}):
        outcome.result()
    assert_nothing_stays(names)
