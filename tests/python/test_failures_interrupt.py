"""Ctrl-C, an abort or an exception on one rank ends the waits of all, and they learn whose it was."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import ringtree as rt
from contract.attempts import (
    DEAD,
    WITHIN_SECONDS,
    Attempt,
    assert_error,
    attempt,
    ones,
    sleep_when_blocked,
)
from contract.processes import Processes, listen, tell
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

everywhere = pytest.mark.parametrize("transport", TRANSPORTS)


def wait_in_all_reduce(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(), algorithm="ring")


def wait_in_large_all_reduce(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(3_000_000), algorithm="two_shot")


def wait_in_barrier(comm: rt.Communicator) -> None:
    comm.barrier(algorithm="dissemination")


def wait_in_queue(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(), algorithm="ring", async_op=True)
    comm.all_reduce(ones(), algorithm="ring")


def wait_in_work(comm: rt.Communicator) -> None:
    work = comm.all_reduce(ones(), algorithm="ring", async_op=True)
    assert work is not None
    work.wait()


def wait_in_recv(comm: rt.Communicator) -> None:
    comm.recv(ones(), 2)


def wait_in_recv_work(comm: rt.Communicator) -> None:
    work = comm.recv(ones(), 2, async_op=True)
    assert work is not None
    work.wait()


def wait_in_send(comm: rt.Communicator) -> None:
    comm.send(ones(3_000_000), 2)


def wait_in_split(comm: rt.Communicator) -> None:
    comm.split(0)


def wait_in_close(comm: rt.Communicator) -> None:
    work = comm.all_reduce(ones(), algorithm="ring", async_op=True)
    assert work is not None
    if comm.rank == 0:
        comm.close()  # which says nothing of the calls it has finished: that is for their Work
    work.wait()


# What rank 0 is said to have done. A wait for a Work may be repeated: the call ends with the `with` block.
INTERRUPTED: dict[Callable[[rt.Communicator], None], str] = {
    wait_in_all_reduce: "was interrupted (Ctrl-C) in all_reduce #2 (float32 x 8, sum, ring).",
    wait_in_large_all_reduce: "was interrupted (Ctrl-C) in all_reduce #2 (float32 x 3000000, sum, two_shot).",
    wait_in_barrier: "was interrupted (Ctrl-C) in barrier #2 (dissemination).",
    wait_in_queue: "aborted the communicator: interrupted (Ctrl-C).",
    wait_in_work: "aborted the communicator: KeyboardInterrupt.",
    wait_in_recv: "was interrupted (Ctrl-C) in recv #1 from rank 2 (float32 x 8).",
    wait_in_recv_work: "aborted the communicator: KeyboardInterrupt.",
    wait_in_send: "was interrupted (Ctrl-C) in send #1 to rank 2 (float32 x 3000000).",
    wait_in_split: "was interrupted (Ctrl-C) in all_gather #2 (int64 x 3, ",
    wait_in_close: "aborted the communicator: ",
}


def wait_until_interrupted(comm: rt.Communicator, name: str) -> Attempt:
    """Ranks 0 and 1 wait for rank 2, which comes too late. Includes closing the communicator."""
    comm.barrier()
    if comm.rank == 2:
        listen()
    else:
        tell("waiting")

    def wait() -> None:
        with comm:
            comm.barrier() if comm.rank == 2 else globals()[name](comm)

    return attempt(wait)


@pytest.mark.parametrize("wait", INTERRUPTED, ids=lambda wait: wait.__name__)
def test_ctrl_c_ends_the_wait_and_tells_the_peers_who_was_interrupted(wait: Callable[..., None]) -> None:
    with Processes(3, wait_until_interrupted, wait.__name__) as ranks:
        for rank in (0, 1):
            assert ranks.hear(rank) == "waiting"
            sleep_when_blocked(ranks.pids[rank])
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        # Rank 0 is gone before rank 2 comes: it must not need that.
        assert ranks.wait_for(0, WITHIN_SECONDS * 5)
        ranks.say(2)
        interrupted, *peers = [outcome.result() for outcome in ranks.outcomes()]
    assert type(interrupted.error) is KeyboardInterrupt
    assert interrupted.ended - pressed < WITHIN_SECONDS
    for rank, tried in enumerate(peers, start=1):
        assert_error(
            tried.error, rt.Aborted, f"rank {rank}, ", f"rank 0 {INTERRUPTED[wait]}", DEAD, ranks=(0,)
        )
    assert peers[0].ended - pressed < WITHIN_SECONDS


def interrupt_run_local() -> tuple[Attempt, list[Attempt]]:
    """Three threads of this process wait for one another's messages; nobody sends any."""
    tried: list[Attempt] = [Attempt(None, 0, 0)] * 3
    one_at_a_time = threading.Lock()

    def wait(comm: rt.Communicator) -> None:
        comm.barrier()
        with one_at_a_time:
            tell("waiting")
        tried[comm.rank] = attempt(lambda: comm.recv(ones(), (comm.rank + 1) % 3))

    return attempt(lambda: rt.run_local(3, wait)), tried


def test_ctrl_c_ends_run_local_and_its_ranks() -> None:
    with Processes(1, interrupt_run_local, joined=False) as ranks:
        assert [ranks.hear(0) for _ in range(3)] == ["waiting"] * 3
        sleep_when_blocked(ranks.pids[0])
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        [outcome] = ranks.outcomes()
    main, tried = outcome.result()
    assert type(main.error) is KeyboardInterrupt
    assert main.ended - pressed < WITHIN_SECONDS
    for rank, one in enumerate(tried):
        call = f"rank {rank}, recv #1 from rank {(rank + 1) % 3} (float32 x 8): rank "
        assert_error(one.error, rt.Aborted, call, " aborted the communicator: KeyboardInterrupt", DEAD)


def interrupt_rendezvous() -> Attempt:
    tell("waiting")
    return attempt(rt.init)


def test_ctrl_c_ends_the_rendezvous() -> None:
    with Processes(2, interrupt_rendezvous, joined=False, present=[0]) as ranks:
        assert ranks.hear(0) == "waiting"
        sleep_when_blocked(ranks.pids[0])
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        [outcome] = ranks.outcomes()
    assert type(outcome.result().error) is KeyboardInterrupt
    assert outcome.result().ended - pressed < WITHIN_SECONDS


def abort_from_another_thread(comm: rt.Communicator) -> Attempt:
    comm.barrier()
    if comm.rank == 0:
        threading.Thread(target=comm.abort, args=("the loss is not a number",)).start()
    return attempt(lambda: comm.recv(ones(), (comm.rank + 1) % comm.world_size))


@everywhere
def test_an_abort_ends_every_rank_with_its_reason(transport: str) -> None:
    for rank, tried in enumerate(run_everywhere(transport, 3, abort_from_another_thread)):
        story = "rank 0 aborted the communicator: the loss is not a number."
        assert_error(tried.error, rt.Aborted, f"rank {rank}, recv", f"{story} {DEAD}", ranks=(0,))
        assert tried.seconds < WITHIN_SECONDS


def raise_on_rank_one(comm: rt.Communicator, seen: list[BaseException | None]) -> None:
    comm.barrier()
    if comm.rank == 1:
        raise LookupError("no such sample")
    seen[comm.rank] = attempt(lambda: comm.all_reduce(ones())).error


def test_what_a_rank_of_run_local_raises_ends_the_others_and_is_raised() -> None:
    seen: list[BaseException | None] = [None] * 3
    with pytest.raises(LookupError, match="no such sample") as raised:
        rt.run_local(3, raise_on_rank_one, seen)
    assert "rank 1" in "".join(raised.value.__notes__)
    for rank in (0, 2):
        assert_error(
            seen[rank], rt.Aborted, f"rank {rank}, all_reduce #2", "rank 1 ", "no such sample", ranks=(1,)
        )
