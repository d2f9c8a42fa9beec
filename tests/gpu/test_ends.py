"""What has been enqueued is done, though its communicator is closed and its arrays are gone meanwhile."""

import time

import numpy as np
import pytest
import ringtree as rt
from gpu.attempts import sum_of_ranks
from gpu.memory import on_gpu
from gpu.worlds import in_threads_and_processes, run_everywhere


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
