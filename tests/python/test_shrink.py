"""shrink(): whoever is left goes on, in the same processes, within a second."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import WITHIN_SECONDS, assert_error, attempt
from contract.processes import Processes, listen, run_processes, tell
from ringtree._core import TRANSPORTS


def again_and_again(call: Callable[[], object]) -> None:
    while True:
        call()


def sum_of_ranks(comm: rt.Communicator) -> float:
    x = np.full(1000, comm.rank, np.float64)
    comm.all_reduce(x)
    assert (x == x[0]).all()
    return float(x[0])


def go_on_after_a_death() -> tuple[int, int, float, float, int]:
    """New rank, new world, a result, the seconds that shrink() took, segments mapped in the end."""
    comm = rt.init()
    x = np.ones(1 << 26, np.float32)
    pending = comm.all_reduce(np.ones(4), async_op=True)
    tell("in the middle")
    with pytest.raises(rt.RankFailure) as failure:
        again_and_again(lambda: comm.all_reduce(x))
    began = time.monotonic()
    comm = comm.shrink()
    seconds = time.monotonic() - began
    assert failure.value.ranks == (1,)
    assert pending is not None
    assert pending.done()
    result = sum_of_ranks(comm)
    segments = Path("/proc/self/maps").read_text().count("ringtree-")
    comm.close()
    return comm.rank, comm.world_size, result, seconds, segments


def test_survivors_of_a_kill_go_on_within_a_second_and_keep_nothing_of_the_old() -> None:
    with Processes(4, go_on_after_a_death, joined=False) as ranks:
        for rank in range(4):
            assert ranks.hear(rank) == "in the middle"
        os.kill(ranks.pids[1], signal.SIGKILL)
        outcomes = ranks.outcomes()
    assert outcomes[1].exitcode == -signal.SIGKILL
    for rank, old in enumerate((0, 2, 3)):
        new_rank, world, result, seconds, segments = outcomes[old].result()
        assert (new_rank, world, result) == (rank, 3, 3.0)
        assert seconds < WITHIN_SECONDS
        assert segments == 1


def shrink_until_alone(comm: rt.Communicator) -> list[int]:
    """The last rank is killed again and again, by itself."""
    worlds = []
    while comm.world_size > 1:
        if comm.rank == comm.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(rt.RankFailure):
            again_and_again(comm.barrier)
        comm = comm.shrink()
        worlds.append(comm.world_size)
        assert sum_of_ranks(comm) == sum(range(comm.world_size))
    comm.close()
    return worlds


def test_one_rank_after_the_other_may_die() -> None:
    first, *others = run_processes(4, shrink_until_alone)
    assert first.result() == [3, 2, 1]
    assert [outcome.exitcode for outcome in others] == [-signal.SIGKILL] * 3


def die_while_shrinking(comm: rt.Communicator) -> tuple[int, float]:
    comm.barrier()
    if comm.rank == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if comm.rank == 1:  # takes part in the decision and dies before the new communicator is there
        assert comm._core.survivors() == [0, 1, 2]
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(rt.RingtreeError):
        again_and_again(comm.barrier)
    with comm.shrink() as smaller:
        return smaller.world_size, sum_of_ranks(smaller)


def test_a_rank_that_dies_in_shrink_is_left_behind_too() -> None:
    outcomes = run_processes(4, die_while_shrinking)
    assert [outcomes[rank].result() for rank in (0, 2)] == [(2, 1.0)] * 2


def shrink_but_one(comm: rt.Communicator) -> None:
    comm.barrier()
    if comm.rank == 2:
        listen()
        return
    tried = attempt(comm.shrink)
    assert_error(
        tried.error,
        rt.Timeout,
        f"rank {comm.rank}, shrink: rank 2 did not call shrink() within 1 s.",
        ranks=(2,),
    )


def test_a_rank_that_does_not_call_is_named() -> None:
    with Processes(3, shrink_but_one, options={"timeout": 1}) as ranks:
        outcomes = [ranks.wait_for(rank, 30) for rank in (0, 1)]
        ranks.say(2)
        assert outcomes == [True, True]
        for outcome in ranks.outcomes():
            assert outcome.error is None or isinstance(outcome.error, rt.Timeout)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ranks_that_have_left_are_left_behind(transport: str) -> None:
    def leave_or_go_on(comm: rt.Communicator) -> tuple[int, int] | None:
        comm.barrier()
        if comm.rank == 0:
            comm.close()
            return None
        with pytest.raises(rt.RankFailure):
            again_and_again(comm.barrier)
        with comm.shrink() as smaller:
            assert sum_of_ranks(smaller) == 1
            return smaller.rank, smaller.world_size

    assert rt.run_local(3, leave_or_go_on, transport=transport) == [None, (0, 2), (1, 2)]


def test_what_is_under_way_on_a_sound_communicator_ends() -> None:
    def shrink_in_the_middle(comm: rt.Communicator) -> int:
        comm.barrier()
        if comm.rank == 0:
            work = comm.all_reduce(np.ones(8), async_op=True)
            smaller = comm.shrink()
            assert work is not None
            with pytest.raises(
                rt.Aborted, match=r"rank 0, all_reduce #2 .* gave the communicator up in shrink"
            ):
                work.wait()
        else:
            smaller = comm.shrink()
        with smaller:
            return smaller.world_size

    assert rt.run_local(3, shrink_in_the_middle) == [3] * 3


def test_a_closed_communicator_cannot_shrink() -> None:
    with rt.init() as comm:
        pass
    with pytest.raises(rt.InvalidArgument, match=r"rank 0, shrink: this communicator is closed"):
        comm.shrink()


def test_alone_one_stays_alone() -> None:
    with rt.init() as comm, comm.shrink() as smaller:
        assert (smaller.rank, smaller.world_size) == (0, 1)
