"""`ringtree top`: a running job as somebody outside sees it."""

import json
import os
import signal
import time

import numpy as np
import pytest
import ringtree as rt
from click.testing import CliRunner
from contract.attempts import sleep_when_blocked
from contract.processes import Processes, listen, tell
from ringtree import _core
from ringtree.cli import main
from ringtree.top import processes


def top(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["top", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def row(output: str, rank: int) -> str:
    return next(line for line in output.splitlines() if line.split()[:1] == [str(rank)])


def wait_in_turns(comm: rt.Communicator) -> None:
    """Rank 1 waits to be told before each call."""
    tell("ready")
    for _ in range(3):
        if comm.rank == 1:
            listen()
        comm.all_reduce(np.ones(1000, np.float32))
    if comm.rank == 0:
        comm.recv(np.ones(5), 1)
    if comm.rank == 1:
        listen()
        comm.send(np.ones(5), 0)
    if comm.rank == 2:
        listen()


def test_a_frame_shows_who_is_in_which_call_and_waits_for_whom() -> None:
    with Processes(3, wait_in_turns) as ranks:
        for rank in range(3):
            ranks.hear(rank)
        for rank in (0, 2):
            sleep_when_blocked(ranks.pids[rank])
        output = top(ranks.pids[2], "--once")
        for rank in (0, 2):
            assert str(ranks.pids[rank]) in row(output, rank)
            assert "rank 1, " in row(output, rank)
            assert "all_reduce #1 (float32 x 1000, sum, one_shot), begun " in row(output, rank)
        assert "1 call " in row(output, 1)
        assert "has made no collective call" in row(output, 1)

        ranks.say(1)
        ranks.say(1)
        ranks.say(1)
        sleep_when_blocked(ranks.pids[0])
        output = top(ranks.pids[2], "--once")
        assert "recv #1 from rank 1 (float64 x 5)" in row(output, 0)
        assert "rank 1, " in row(output, 0)
        assert "computes since all_reduce #3" in row(output, 1)

        os.kill(ranks.pids[1], signal.SIGSTOP)
        output = top(ranks.pids[0], "--once")
        assert "is stopped" in row(output, 1)
        os.kill(ranks.pids[1], signal.SIGCONT)
        ranks.say(1)
        ranks.say(2)
        for outcome in ranks.outcomes():
            outcome.result()


def test_a_job_that_is_at_work_can_be_watched_at_any_moment() -> None:
    with Processes(2, wait_for_a_word) as ranks:
        for rank in range(2):
            ranks.hear(rank)
        seen = []
        deadline = time.monotonic() + 60
        while len(seen) < 200:
            assert time.monotonic() < deadline
            (snapshot,) = map(json.loads, _core.observe(ranks.pids[0]))
            for view in snapshot["ranks"]:
                numbers = [call["sequence"] for call in view["calls"]]
                assert numbers == sorted(set(numbers))
                for call in view["calls"]:  # torn records would mix these
                    odd = call["sequence"] % 2 == 1
                    assert call["op"] == ("all_reduce" if odd else "barrier")
                    assert call["count"] == (100 + call["sequence"] % 7 if odd else 0)
            seen.append(snapshot["ranks"][0]["entered"])
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]
        for rank in range(2):
            ranks.say(rank)
        for outcome in ranks.outcomes():
            outcome.result()


def wait_for_a_word(comm: rt.Communicator) -> None:
    """Calls whose sizes follow from their numbers, until the test has said something to both ranks."""
    from contract import processes

    assert processes._parent is not None
    tell("ready")
    sequence, over = 0, False
    while not over:
        for _ in range(500):
            sequence += 1
            x = np.zeros(100 + sequence % 7)
            x[0] = processes._parent.poll()
            comm.all_reduce(x)
            over = x[0] == comm.world_size
            sequence += 1
            comm.barrier()
            if over:
                break
    listen()


def test_several_communicators_are_shown_each() -> None:
    with Processes(2, split_and_wait) as ranks:
        for rank in range(2):
            ranks.hear(rank)
        output = top(ranks.pids[1], "--once")
        assert output.count("communicator ") == 2
        assert "2 ranks on" in output
        assert "1 rank on" in output
        for rank in range(2):
            ranks.say(rank)
        for outcome in ranks.outcomes():
            outcome.result()


def split_and_wait(comm: rt.Communicator) -> None:
    group = comm.split(comm.rank)
    assert group is not None
    tell("ready")
    listen()


def test_without_a_process_the_only_job_is_shown_and_several_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert os.getpid() in processes()
    ours: list[int] = []  # other programs of this machine may use ringtree, too
    monkeypatch.setattr("ringtree.top.processes", lambda: sorted(ours))
    with Processes(2, split_and_wait) as one:
        ours += one.pids.values()
        for rank in range(2):
            one.hear(rank)
        assert str(one.pids[0]) in top("--once")
        with Processes(2, split_and_wait) as other:
            ours += other.pids.values()
            for rank in range(2):
                other.hear(rank)
            result = CliRunner().invoke(main, ["top", "--once"])
            assert result.exit_code == 1
            assert "several jobs run here" in result.output
            for ranks in (one, other):
                assert any(f"  {pid}  2 ranks  " in result.output for pid in ranks.pids.values())
                for rank in range(2):
                    ranks.say(rank)
                ranks.outcomes()


def test_it_ends_with_the_job() -> None:
    with Processes(2, split_and_wait) as ranks:
        for rank in range(2):
            ranks.hear(rank)
        pid = ranks.pids[0]
        for rank in range(2):
            ranks.say(rank)
        ranks.outcomes()
    result = CliRunner().invoke(main, ["top", str(pid)])
    assert result.exit_code == 1
    assert f"process {pid} has no communicator between processes" in result.output


def test_processes_of_others_are_explained() -> None:
    with pytest.raises(rt.TransportError, match="cannot be looked at"):
        _core.observe(2**22 + 1)
    assert _core.observe(os.getpid()) == []
