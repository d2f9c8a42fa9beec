"""RINGTREE_FAULT: each kind of fault, and what the other ranks are told."""

import os
import signal
import threading

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import WITHIN_SECONDS, Attempt, assert_error, attempt
from contract.processes import Processes, run_processes


def reduce_five_times(comm: rt.Communicator, asynchronous: bool) -> Attempt:
    def work() -> None:
        for _ in range(5):
            pending = comm.all_reduce(np.ones(1000, np.float32), algorithm="ring", async_op=asynchronous)
            if pending is not None:
                pending.wait()

    return attempt(work)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_kill_strikes_at_the_call_and_is_named_within_a_second(asynchronous: bool) -> None:
    faults = {"RINGTREE_FAULT": "rank=1,op=all_reduce,seq=3,kind=kill"}
    first, killed, last = run_processes(3, reduce_five_times, asynchronous, environment=faults)
    assert killed.exitcode == -signal.SIGKILL
    for rank, outcome in ((0, first), (2, last)):
        tried = outcome.result()
        assert_error(
            tried.error,
            rt.RankFailure,
            f"rank {rank}, all_reduce #3 (float32 x 1000, sum, ring): rank 1 died",
            ranks=(1,),
        )
        assert tried.seconds < WITHIN_SECONDS


ALGORITHMS = [(c, name) for c in rt.COLLECTIVES for name in rt.algorithms(c)]


def call_three_times(comm: rt.Communicator, collective: str, algorithm: str) -> Attempt:
    n = comm.world_size
    small, large = np.ones(50_000), np.ones(50_000 * n)
    calls = {
        "all_reduce": lambda: comm.all_reduce(small, algorithm=algorithm),
        "reduce": lambda: comm.reduce(small, algorithm=algorithm),
        "broadcast": lambda: comm.broadcast(small, algorithm=algorithm),
        "all_gather": lambda: comm.all_gather(large, small, algorithm=algorithm),
        "reduce_scatter": lambda: comm.reduce_scatter(small, large, algorithm=algorithm),
        "all_to_all": lambda: comm.all_to_all(large, np.ones_like(large), algorithm=algorithm),
        "gather": lambda: comm.gather(None if comm.rank else large, small, algorithm=algorithm),
        "scatter": lambda: comm.scatter(small, None if comm.rank else large, algorithm=algorithm),
        "barrier": lambda: comm.barrier(algorithm=algorithm),
    }

    def work() -> None:
        for _ in range(3):
            calls[collective]()
        comm.barrier()  # whose part was done before hears of it here

    return attempt(work)


@pytest.mark.parametrize("victim", [0, 4])
@pytest.mark.parametrize(("collective", "algorithm"), ALGORITHMS)
def test_a_rank_killed_in_the_middle_of_any_algorithm_is_named_by_all(
    collective: str, algorithm: str, victim: int
) -> None:
    faults = {"RINGTREE_FAULT": f"rank={victim},seq=2,kind=kill,at=middle"}
    outcomes = run_processes(5, call_three_times, collective, algorithm, environment=faults)
    assert outcomes.pop(victim).exitcode == -signal.SIGKILL
    for outcome in outcomes:
        tried = outcome.result()
        assert_error(tried.error, rt.RankFailure, f"rank {victim} died", ranks=(victim,))
        assert tried.seconds < WITHIN_SECONDS


def test_a_rank_stopped_in_the_middle_has_arrived_but_does_not_go_on() -> None:
    faults = {"RINGTREE_FAULT": "rank=1,seq=2,kind=stop,at=middle"}
    with Processes(3, reduce_five_times, False, environment=faults, options={"timeout": 1.5}) as ranks:
        for rank in (0, 2):
            assert ranks.wait_for(rank, 30)
        os.kill(ranks.pids[1], signal.SIGCONT)
        outcomes = ranks.outcomes()
    for outcome in outcomes:
        assert_error(outcome.result().error, rt.Timeout, "all_reduce #2", "all ranks have arrived, but rank")


def test_a_rank_that_is_late_in_the_middle_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_FAULT", "rank=0,op=all_reduce,kind=delay:50ms,at=middle")
    for tried in rt.run_local(2, reduce_five_times, True):
        assert tried.error is None
        assert tried.seconds > 0.25


def test_a_stopped_rank_is_named_at_the_timeout() -> None:
    faults = {"RINGTREE_FAULT": "rank=1,seq=2,kind=stop"}
    with Processes(3, reduce_five_times, False, environment=faults, options={"timeout": 1.5}) as ranks:
        for rank in (0, 2):
            assert ranks.wait_for(rank, 30)
        os.kill(ranks.pids[1], signal.SIGCONT)
        outcomes = ranks.outcomes()
    for rank, outcome in enumerate(outcomes):
        assert_error(
            outcome.result().error, rt.Timeout, f"rank {rank}, ", "all_reduce #2", "rank 1 has not called it"
        )


def test_a_late_rank_is_waited_for() -> None:
    faults = {"RINGTREE_FAULT": "rank=0,op=all_reduce,seq=4,kind=delay:300ms"}
    for outcome in run_processes(2, reduce_five_times, False, environment=faults):
        assert outcome.result().error is None
        assert outcome.result().seconds > 0.3


def test_a_dropped_call_meets_the_next_one_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_FAULT", "rank=1,op=all_reduce,seq=2,kind=drop")

    def forget_one(comm: rt.Communicator) -> Attempt:
        def work() -> None:
            comm.barrier()
            comm.all_reduce(np.ones(8))
            comm.broadcast(np.ones(8))

        return attempt(work)

    for rank, tried in enumerate(rt.run_local(2, forget_one)):
        assert_error(
            tried.error, rt.Mismatch, f"rank {rank}, ", "all_reduce #2 (", "broadcast #2 (", ranks=(0, 1)
        )


def test_a_dropped_message_is_missed_by_its_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_FAULT", "rank=0,op=send,seq=2,kind=drop")
    over = threading.Event()

    def pass_two(comm: rt.Communicator) -> tuple[float, Attempt | None]:
        x = np.zeros(1)
        if comm.rank == 0:
            comm.send(np.ones(1), 1)
            work = comm.send(np.ones(1), 1, async_op=True)
            assert work is not None
            work.wait()
            over.wait(30)  # to leave would be another failure
            return 1.0, None
        comm.recv(x, 0)
        missed = attempt(lambda: comm.recv(x, 0))
        over.set()
        return float(x[0]), missed

    (_, nothing), (first, second) = rt.run_local(2, pass_two, timeout=1)
    assert (nothing, first) == (None, 1.0)
    assert second is not None
    assert_error(
        second.error, rt.Timeout, "rank 1, recv #2 from rank 0", "rank 0 has not made the matching call"
    )


def test_groups_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_FAULT", "rank=0,op=barrier,kind=drop")

    def use_a_group(comm: rt.Communicator) -> float:
        group = comm.split(0)
        assert group is not None
        group.barrier()
        x = np.ones(1)
        group.all_reduce(x)
        return float(x[0])

    assert rt.run_local(2, use_a_group) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (
            "rank=0",
            "RINGTREE_FAULT: 'rank=0': kind is missing; a fault is rank=2,op=all_reduce,seq=137,kind=kill",
        ),
        ("rank=7,kind=kill", "RINGTREE_FAULT: there is no rank 7 in a world of 1"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, faults: str, message: str) -> None:
    monkeypatch.setenv("RINGTREE_FAULT", faults)
    with pytest.raises(rt.InvalidArgument) as raised:
        rt.init()
    assert message in str(raised.value)
