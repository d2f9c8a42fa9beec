"""A rank that dies, leaves or forks: the others learn which it was, and a forked child disturbs nobody."""

import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import (
    DEAD,
    EVERY_CALL,
    WITHIN_SECONDS,
    Attempt,
    assert_error,
    attempt,
    ones,
)
from contract.processes import Processes, listen, run_processes, tell


def run_until_someone_is_gone(comm: rt.Communicator) -> Attempt:
    def run() -> None:
        for number in range(1_000_000):
            comm.all_reduce(ones(), algorithm=("ring", "one_shot", "double_tree")[number % 3])
            if number == 100 and comm.rank == 1:
                tell("in the middle")

    return attempt(run)


@pytest.mark.parametrize("world", [2, 4])
def test_a_killed_rank_is_named_on_every_survivor(world: int) -> None:
    with Processes(world, run_until_someone_is_gone) as ranks:
        assert ranks.hear(1) == "in the middle"
        killed = time.monotonic()
        os.kill(ranks.pids[1], signal.SIGKILL)
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for rank, outcome in zip((0, *range(2, world)), outcomes, strict=True):
        tried = outcome.result()
        assert_error(tried.error, rt.RankFailure, f"rank {rank}, all_reduce #", DEAD, ranks=(1,))
        assert re.search(
            r"rank 1 died \(the process has ended\) while all_reduce #\d+ \(.*\) needs it", str(tried.error)
        )
        assert isinstance(tried.error, ConnectionError)
        assert tried.ended - killed < WITHIN_SECONDS


def reduce_256_mib(comm: rt.Communicator, in_blocks: bool, asynchronous: bool) -> Attempt:
    count = 64 << 20
    x = comm.empty(count) if in_blocks else np.empty(count, np.float32)
    x[:] = 1
    for _ in range(10):  # from the eighth call on, blocks are asked for
        comm.barrier()

    def run() -> None:
        work = comm.all_reduce(x, async_op=asynchronous)
        if work is not None:
            work.wait()
        comm.barrier()

    return attempt(run)


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_rank_killed_in_the_middle_of_256_mib_is_named_within_a_second(
    asynchronous: bool, in_blocks: bool
) -> None:
    faults = {"RINGTREE_FAULT": "rank=1,op=all_reduce,kind=kill,at=middle"}
    with Processes(3, reduce_256_mib, in_blocks, asynchronous, environment=faults) as ranks:
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for outcome in outcomes:
        tried = outcome.result()
        assert_error(
            tried.error, rt.RankFailure, "rank 1 died", "all_reduce #11 (float32 x 67108864", ranks=(1,)
        )
        assert tried.seconds < WITHIN_SECONDS


def leave_early(comm: rt.Communicator, how: str) -> Attempt | None:
    comm.barrier()
    if comm.rank == 1:
        if how == "exits":
            os._exit(3)
        if how == "raises":
            raise LookupError("no such sample")
        return None
    return attempt(
        lambda: comm.recv(ones(), 1) if how == "is awaited" else comm.all_reduce(ones(), algorithm="ring")
    )


@pytest.mark.parametrize("how", ["leaves", "exits", "is awaited"])
def test_a_rank_that_leaves_early_is_named(how: str) -> None:
    outcomes = run_processes(3, leave_early, how)
    story = (
        "rank 1 died (the process has ended) while"
        if how == "exits"
        else "rank 1 closed the communicator while"
    )
    for rank in (0, 2):
        tried = outcomes[rank].result()
        call = (
            "recv #1 from rank 1 (float32 x 8)"
            if how == "is awaited"
            else "all_reduce #2 (float32 x 8, sum, ring)"
        )
        assert_error(
            tried.error, rt.RankFailure, f"rank {rank}, {call}: {story}", "needs it", DEAD, ranks=(1,)
        )
        assert tried.seconds < WITHIN_SECONDS
    assert outcomes[1].exitcode == (3 if how == "exits" else None)


def leave_after_last_message(comm: rt.Communicator) -> Any:
    """Rank 1 has done all it must, and is gone before rank 0 looks for what it sent."""
    x = np.zeros(8, np.float32)
    if comm.rank == 1:
        comm.send(ones(), 0)
        return None
    listen()
    comm.recv(x, 1)
    return x


def test_a_rank_that_leaves_after_its_last_message_is_not_missed() -> None:
    with Processes(2, leave_after_last_message) as ranks:
        assert ranks.wait_for(1, 30)
        ranks.say(0)
        assert (ranks.outcomes()[0].result() == 1).all()


def test_an_exception_that_ends_a_rank_is_told_to_its_peers() -> None:
    outcomes = run_processes(3, leave_early, "raises")
    assert type(outcomes[1].error) is LookupError
    for rank in (0, 2):
        tried = outcomes[rank].result()
        call = f"rank {rank}, all_reduce #2 (float32 x 8, sum, ring): "
        assert_error(
            tried.error, rt.Aborted, call, "rank 1 aborted the communicator: LookupError: no such sample"
        )
        assert tried.seconds < WITHIN_SECONDS


def use_after_fork(comm: rt.Communicator) -> tuple[dict[str, str], Any]:
    """What a forked child of each rank is told, and what the rank itself gets after that."""
    comm.all_reduce(ones(), async_op=True)  # starts the thread that a child does not have
    comm.barrier()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            texts = [attempt(lambda call=call: call(comm)).error for call in EVERY_CALL.values()]  # type: ignore[misc]
            comm.close()
            os.write(writing, "\n".join(f"{type(text).__name__}: {text}" for text in texts).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().split("\n")
    os.waitpid(child, 0)
    x = ones()
    comm.all_reduce(x)
    return dict(zip(EVERY_CALL, lines, strict=True)), x


def test_a_forked_child_is_refused_and_its_parent_goes_on() -> None:
    for rank, outcome in enumerate(run_processes(2, use_after_fork)):
        told, x = outcome.result()
        for name, line in told.items():
            assert line.startswith(
                f"InvalidArgument: rank {rank}, {name}: this communicator belongs to the process that forked "
                "this one; create a new one in the child"
            )
        assert (x == 2).all()


FORK_AND_EXIT = """
import os, sys
import numpy as np
import ringtree as rt

comm = rt.init()
comm.all_reduce(np.ones(8), async_op=True).wait()
child = os.fork()
if child == 0:
    sys.exit(0)  # with all exit handlers
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
comm.all_reduce(np.ones(8))
"""


def test_a_forked_child_exits_normally() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK_AND_EXIT], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
