"""Mismatch, Timeout and RankFailure arrive as DistBackendError with ringtree's text, on every survivor."""

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from contract.attempts import WITHIN_SECONDS, Attempt, attempt
from ringtree.cli import main
from torch.nn.parallel import DistributedDataParallel
from torch_backend.ranks import TorchRanks, run_ranks


def refused() -> None:
    """Nothing is sent, and the group stays usable."""
    n, rank = dist.get_world_size(), dist.get_rank()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: dist.all_reduce(torch.ones(3, dtype=torch.int16)), "does not compute with Short"),
        (
            lambda: dist.all_reduce(torch.ones(3, dtype=torch.int32), dist.ReduceOp.AVG),
            "op avg does not exist",
        ),
        (lambda: dist.all_reduce(torch.ones(3), dist.ReduceOp.BAND), "op band does not exist"),
        (
            lambda: dist.all_reduce(torch.ones(3, dtype=torch.complex64), dist.ReduceOp.MAX),
            "all_reduce does not support|complex numbers can be summed",
        ),
        (lambda: dist.all_gather_into_tensor(torch.empty(5), torch.ones(2)), "output tensor must"),
        (lambda: dist.all_to_all_single(torch.empty(n), torch.ones(n), [n], [n]), "split sizes must be"),
        (lambda: dist.send(torch.ones(1), 1 - rank, tag=-1), "tag must be 0 or more"),
    ]
    for call, text in cases:
        with pytest.raises((ValueError, RuntimeError), match=text):
            call()
    x = torch.ones(1)
    dist.all_reduce(x)
    assert x.item() == n


def test_what_is_refused_leaves_the_group_usable() -> None:
    run_ranks(2, refused)


def different_calls(asynchronous: bool) -> Attempt:
    x = torch.ones(8 + dist.get_rank())
    if asynchronous:
        work = dist.all_reduce(x, async_op=True)
        tried = attempt(work.wait)
        assert work.is_completed()
        assert not work.is_success()
        with pytest.raises(dist.DistBackendError):
            work.get_future().wait()
        return tried
    return attempt(lambda: dist.all_reduce(x))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_mismatch_names_both_calls_on_every_rank(asynchronous: bool) -> None:
    with TorchRanks(2, different_calls, asynchronous) as ranks:
        for rank, outcome in enumerate(ranks.outcomes()):
            error = outcome.value.error
            assert isinstance(error, dist.DistBackendError)
            assert str(error).startswith(f"Mismatch: rank {rank}, all_reduce #1 (float32 x {8 + rank}")
            for size in (8, 9):
                assert f"called all_reduce #1 (float32 x {size}" in str(error)


def test_traces_know_the_process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_TRACE_DIR", str(tmp_path))
    with TorchRanks(2, different_calls, False) as ranks:
        ranks.outcomes()
    result = CliRunner().invoke(main, ["trace", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "(process group 0), 2 ranks on " in result.output
    assert "rank 0 called all_reduce #1 (float32 x 8" in result.output.replace("\n", " ")


def killed(victim: int, asynchronous: bool) -> tuple[Attempt, float]:
    """The last moment at which the victim was alive is when it killed itself: told by the store."""
    dist.barrier()
    if dist.get_rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    x = torch.ones(1 << 22)

    def reduce() -> None:
        if asynchronous:
            dist.all_reduce(x, async_op=True).wait()
        else:
            dist.all_reduce(x)

    return attempt(reduce), time.monotonic()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_killed_rank_is_named_on_every_survivor_within_a_second(asynchronous: bool) -> None:
    with TorchRanks(3, killed, 1, asynchronous) as ranks:
        outcomes = ranks.outcomes()
        assert outcomes.pop(1).exitcode == -signal.SIGKILL
        for outcome in outcomes:
            tried, _ = outcome.value
            assert isinstance(tried.error, dist.DistBackendError)
            assert "RankFailure: rank " in str(tried.error)
            assert "rank 1 died (the process has ended) while all_reduce #2" in str(tried.error)
            assert tried.seconds < WITHIN_SECONDS


def killed_in_training(victim: int) -> Attempt:
    """In the third step of DDP, whose reducer waits for what it has begun."""
    model = DistributedDataParallel(torch.nn.Linear(1000, 1000), bucket_cap_mb=1)

    def step() -> None:
        model(torch.ones(4, 1000)).sum().backward()

    for _ in range(2):
        step()
    dist.barrier()
    if dist.get_rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt(step)


def test_training_ends_on_every_survivor_within_a_second() -> None:
    with TorchRanks(3, killed_in_training, 1) as ranks:
        outcomes = ranks.outcomes()
        assert outcomes.pop(1).exitcode == -signal.SIGKILL
        for outcome in outcomes:
            tried = outcome.value
            assert isinstance(tried.error, dist.DistBackendError)
            assert "rank 1 died (the process has ended) while all_reduce #" in str(tried.error)
            assert tried.seconds < WITHIN_SECONDS


def never_calls() -> str:
    if dist.get_rank() == 2:
        signal.pause()
    with pytest.raises(dist.DistBackendError) as raised:
        dist.all_reduce(torch.ones(1))
    return str(raised.value)


def test_who_never_calls_is_named_after_the_timeout() -> None:
    with TorchRanks(3, never_calls, timeout=1) as ranks:
        for rank in range(2):
            text = ranks.outcome_of(rank).result()
            assert text.startswith("Timeout: Timed out in rank ")
            assert "was not complete after 1 s: rank 2 has not called it" in text


def has_a_timeout_of_its_own() -> str:
    if dist.get_rank() == 1:
        with pytest.raises(dist.DistBackendError):
            dist.recv(torch.empty(1), 0)
        return ""
    options = dist.AllreduceOptions()
    options.timeout = timedelta(seconds=0.5)
    work = dist.distributed_c10d._get_default_group().allreduce([torch.ones(1)], options)
    with pytest.raises(dist.DistBackendError) as raised:
        work.wait()
    return str(raised.value)


def test_a_call_may_have_a_timeout_of_its_own() -> None:
    text, _ = run_ranks(2, has_a_timeout_of_its_own)
    assert "all_reduce #1 (float32 x 1, sum, one_shot) was not complete after 0.5 s: rank 1 has not" in text


def aborted() -> str:
    if dist.get_rank() == 1:
        dist.barrier()
        dist.distributed_c10d._get_default_group().abort()
        return ""
    work = dist.barrier(async_op=True)
    work.wait()
    with pytest.raises(dist.DistBackendError) as raised:
        dist.all_reduce(torch.ones(1))
    return str(raised.value)


def test_abort_ends_what_peers_wait_for() -> None:
    with TorchRanks(2, aborted) as ranks:
        assert "rank 1 aborted the communicator" in ranks.outcome_of(0).value


def aborted_through_c10d() -> str:
    """What rank 1 itself has under way ends as well, and c10d has forgotten the group."""
    if dist.get_rank() == 0:
        with pytest.raises(dist.DistBackendError) as raised:
            dist.recv(torch.ones(1), 1)
        return str(raised.value)
    work = dist.all_reduce(torch.ones(1), async_op=True)
    dist.distributed_c10d._abort_process_group()
    assert not dist.is_initialized()
    with pytest.raises(dist.DistBackendError) as raised:
        work.wait()
    return str(raised.value)


def test_aborting_a_group_ends_its_calls_everywhere() -> None:
    for text in run_ranks(2, aborted_through_c10d):
        assert "rank 1 aborted the communicator: abort() of the process group." in text


def shut_down() -> str:
    """Rank 0 leaves after what it has under way, and calls nothing any more; rank 1 does not know that."""
    group, x = dist.distributed_c10d._get_default_group(), torch.full((1 << 20,), 1.0 + dist.get_rank())
    work = dist.all_reduce(x, async_op=True)
    if dist.get_rank() == 0:
        group.shutdown()
        group.shutdown()
        assert work.is_completed()
    work.wait()
    assert (x == 3).all()
    with pytest.raises(ValueError if dist.get_rank() == 0 else dist.DistBackendError) as raised:
        dist.all_reduce(x)
    return str(raised.value)


def test_a_group_that_was_shut_down_has_finished_its_calls_and_takes_no_more() -> None:
    own, of_peer = run_ranks(2, shut_down)
    assert "rank 0, all_reduce: the process group was destroyed." in own
    assert "rank 0 closed the communicator while all_reduce #2 (float32 x 1048576, sum, " in of_peer


def press_in(seconds: float) -> None:
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def interrupted() -> str:
    """Ctrl-C reaches a wait in C++."""
    if dist.get_rank() == 1:
        with pytest.raises(dist.DistBackendError) as raised:
            dist.recv(torch.empty(1), 0)
        return str(raised.value)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    press_in(0.2)
    with pytest.raises(KeyboardInterrupt):
        dist.irecv(torch.empty(1), 1).wait()
    press_in(0.2)
    with pytest.raises(KeyboardInterrupt):
        dist.all_reduce(torch.ones(1))  # rank 1 never calls it
    return ""


def test_ctrl_c_ends_a_wait() -> None:
    with TorchRanks(2, interrupted) as ranks:
        assert "rank 0 was interrupted (Ctrl-C) in all_reduce #1" in ranks.outcome_of(1).result()


def go_on_without(victim: int) -> tuple[float, float]:
    dist.barrier()
    if dist.get_rank() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(dist.DistBackendError, match=f"rank {victim} died"):
        dist.all_reduce(torch.ones(100_000))
    began = time.monotonic()
    dist.shrink_group([victim], shrink_flags=dist.distributed_c10d.SHRINK_ABORT)
    elapsed = time.monotonic() - began
    x = torch.tensor([1.0 + dist.get_rank()])
    dist.all_reduce(x)
    dist.barrier()
    return x.item(), elapsed


@pytest.mark.parametrize("victim", [0, 2])
def test_survivors_shrink_the_group_and_go_on_in_the_same_processes(victim: int) -> None:
    with TorchRanks(4, go_on_without, victim) as ranks:
        outcomes = ranks.outcomes()
        assert outcomes.pop(victim).exitcode == -signal.SIGKILL
        for outcome in outcomes:
            total, elapsed = outcome.result()
            assert total == 6
            assert elapsed < WITHIN_SECONDS


def leave_out_the_living() -> float:
    if dist.get_rank() == 1:
        with pytest.raises(dist.DistBackendError, match="Aborted"):
            dist.barrier()
        return 0
    dist.shrink_group([1])
    x = torch.ones(1)
    dist.all_reduce(x)
    return x.item()


def test_ranks_that_are_alive_can_be_left_out() -> None:
    assert run_ranks(3, leave_out_the_living) == [2, 0, 2]
