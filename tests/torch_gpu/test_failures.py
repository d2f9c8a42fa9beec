"""What goes wrong with tensors on a GPU is said in the call, or in its wait."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import TorchRanks, run_ranks
from torch_gpu.tensors import missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def told(call: Callable[[], Any]) -> str:
    try:
        call()
    except dist.DistBackendError as error:
        return str(error)
    return "nothing"


def wait_for(*works: Any) -> None:
    for work in works:
        work.wait()
    dist.barrier()  # of the device, and for the host


def differ() -> str:
    x = to_gpu(torch.ones(1))
    dist.all_reduce(x)
    big = to_gpu(torch.ones(8 + dist.get_rank()))
    return told(lambda: wait_for(dist.all_reduce(big, async_op=True)))


def test_different_calls_are_explained() -> None:
    for text in run_ranks(2, differ, timeout=30):
        assert "rank 0 called all_reduce" in text
        assert "float32 x 8" in text
        assert "float32 x 9" in text


def die() -> str:
    x = to_gpu(torch.ones(1000))
    dist.all_reduce(x)
    dist.barrier()
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return told(lambda: wait_for(dist.all_reduce(x, async_op=True)))


def test_a_dead_rank_is_named() -> None:
    with TorchRanks(3, die) as ranks:
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for outcome in outcomes:
        assert "rank 1 died (the process has ended) while" in outcome.result()


def refuse() -> list[str]:
    x = to_gpu(torch.ones(4))

    def text(call: Callable[[], Any]) -> str:
        try:
            call()
        except ValueError as error:
            return str(error)
        return "nothing"

    return [
        text(lambda: dist.recv(x)),
        text(lambda: dist.all_gather([torch.zeros(4), torch.zeros(4)], x)),
    ]


def test_what_cannot_be_is_refused() -> None:
    for anysource, mixed in run_ranks(2, refuse):
        assert "a tensor on a GPU is received from a rank that the call names" in anysource
        assert "all tensors of a call must be on one device" in mixed
