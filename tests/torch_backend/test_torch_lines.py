"""RINGTREE_RECORDER=lines under torch.distributed: calls know the line of the program, not one of PyTorch's."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.distributed.nn
from ringtree import _core
from torch.nn.parallel import DistributedDataParallel
from torch_backend.ranks import run_ranks


def line_of(text: str) -> str:
    """Where the only line of this file that ends with a comment of `text` stands."""
    (number,) = (
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), start=1)
        if line.endswith(f"  # {text}")
    )
    return f"{__file__}:{number}"


def lines_of_all_reduces() -> list[str | None]:
    """Of this rank's calls."""
    (snapshot,) = map(json.loads, _core.observe(os.getpid()))
    calls = snapshot["ranks"][dist.get_rank()]["calls"]
    return [call["line"] for call in calls if call["op"] == "all_reduce"]


def make_calls() -> list[str | None]:
    x = torch.ones(3)
    dist.all_reduce(x)  # blocking
    dist.all_reduce(x, async_op=True).wait()  # queued
    with dist._coalescing_manager():  # together
        dist.all_reduce(x)
        dist.all_reduce(x)
    torch.distributed.nn.functional.all_reduce(x)  # differentiable
    functional.all_reduce(x, "sum", dist.group.WORLD).wait()  # functional
    return lines_of_all_reduces()


def train() -> list[str | None]:
    model = DistributedDataParallel(torch.nn.Linear(3, 1))
    loss = model(torch.ones(2, 3)).sum()
    loss.backward()  # the gradients' all_reduce
    return lines_of_all_reduces()


def test_each_call_keeps_the_line_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_RECORDER", "lines")
    made = ["blocking", "queued", "together", "together", "differentiable", "functional"]
    assert run_ranks(2, make_calls) == [[line_of(text) for text in made]] * 2


def test_the_gradients_of_ddp_come_from_the_line_that_calls_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_RECORDER", "lines")
    for lines in run_ranks(2, train):
        assert lines[-1] == line_of("the gradients' all_reduce")


def test_lines_are_kept_only_where_they_are_asked_for() -> None:
    assert run_ranks(2, make_calls) == [[None] * 6] * 2
