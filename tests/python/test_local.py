import sys
import threading

import numpy as np
import pytest
import ringtree as rt


def test_results_come_by_rank_and_arguments_are_passed_on():
    assert rt.run_local(3, lambda comm, a, b: (comm.rank, a + b), 1, 2) == [(0, 3), (1, 3), (2, 3)]


def test_what_a_rank_raises_first_is_raised_here_and_nobody_hangs():
    def body(comm):
        if comm.rank == 1:
            raise KeyError("lost")
        comm.all_reduce(np.ones(3))

    with pytest.raises(KeyError, match="lost") as caught:
        rt.run_local(3, body)
    assert caught.value.__notes__ == ["(raised by rank 1 of 3 in rt.run_local)"]


def test_peers_of_a_failed_rank_are_told_what_was_raised_there():
    told = []

    def body(comm):
        if comm.rank == 1:
            raise ValueError("the loss is NaN")
        try:
            comm.barrier()
        except rt.Aborted as error:
            told.append((str(error), error.ranks))

    with pytest.raises(ValueError, match="NaN"):
        rt.run_local(2, body)
    ((text, ranks),) = told
    assert "rank 1 aborted the communicator: ValueError: the loss is NaN." in text
    assert ranks == (1,)


def test_it_works_over_shared_memory_too():
    def body(comm):
        x = np.ones(1000)
        comm.all_reduce(x)
        return comm.transport, x.sum()

    assert rt.run_local(2, body, transport="shm") == [("shm", 2000.0)] * 2


def test_no_threads_are_left():
    before = threading.active_count()
    rt.run_local(4, lambda comm: comm.all_reduce(np.ones(3), async_op=True).wait())
    assert threading.active_count() == before


def test_a_world_must_have_ranks():
    with pytest.raises(rt.InvalidArgument, match="an integer of 1 or more, not 0"):
        rt.run_local(0, lambda comm: None)


def test_an_unknown_transport_is_named():
    with pytest.raises(rt.InvalidArgument, match="unknown transport 'smoke'; this build has: shm, threads"):
        rt.run_local(1, lambda comm: None, transport="smoke")


def test_ranks_are_threads_with_their_names():
    assert rt.run_local(2, lambda comm: threading.current_thread().name) == ["rank 0", "rank 1"]


def test_peers_that_wait_in_a_group_are_told_too():
    def body(comm):
        group = comm.split(comm.rank // 2)
        if comm.rank == 3:
            raise KeyError("lost")
        group.barrier() if comm.rank == 2 else comm.barrier()

    with pytest.raises(KeyError, match="lost"):
        rt.run_local(4, body)


def test_a_rank_that_fails_after_others_have_left_is_the_one_that_is_named():
    def body(comm):
        if comm.rank == 2:
            raise KeyError("lost")

    for _ in range(20):
        with pytest.raises(KeyError, match="lost") as caught:
            rt.run_local(3, body)
        assert caught.value.__notes__ == ["(raised by rank 2 of 3 in rt.run_local)"]


def test_an_exit_in_a_rank_is_an_exit_here():
    def body(comm):
        if comm.rank == 1:
            sys.exit(3)
        comm.barrier()

    with pytest.raises(SystemExit) as caught:
        rt.run_local(2, body)
    assert caught.value.code == 3
