"""TORCH_DISTRIBUTED_DEBUG=DETAIL: PyTorch wraps each group and compares calls itself, before ringtree does."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch_backend import test_torch_collectives as collectives
from torch_backend import test_torch_messages as messages
from torch_backend.ranks import run_ranks
from torch_backend.test_torch_training import train_ddp, train_fsdp

coalesces = pytest.mark.skipif(
    torch.__version__ < "2.12", reason="PyTorch's wrapper has no coalesced calls before 2.12"
)


@pytest.fixture(autouse=True)
def detail() -> Iterator[None]:
    """The ranks inherit what PyTorch has read from the variable when it was imported."""
    before = dist.get_debug_level()
    dist.set_debug_level(dist.DebugLevel.DETAIL)
    yield
    dist.set_debug_level(before)


def is_wrapped() -> bool:
    # The wrapper has a group of Gloo's, which fails on a rank whose peer leaves before both are connected.
    dist.barrier()
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    return type(backend).__name__ == "_ProcessGroupWrapper" and type(backend.wrapped_pg).__name__ == (
        "ProcessGroupRingtree"
    )


def test_groups_are_wrapped() -> None:
    assert all(run_ranks(2, is_wrapped))


@pytest.mark.parametrize(
    "work",
    [
        collectives.reduce_everything,
        collectives.reduce_the_rest,
        collectives.move_everything,
        collectives.uneven_shares,
        collectives.scatter_reductions,
        collectives.odd_layouts,
        collectives.sparse_sums,
        pytest.param(collectives.several_at_once, marks=coalesces),
        collectives.objects,
        messages.in_any_order,
        messages.from_anybody,
        messages.around_the_ring,
    ],
    ids=lambda work: work.__name__,
)
def test_what_works_without_it_works_with_it(work: Callable[[], object]) -> None:
    run_ranks(2, work)


def ddp() -> list[Any]:
    return train_ddp({}, accumulate=False, uneven=False)


@pytest.mark.parametrize("train", [ddp, pytest.param(train_fsdp, marks=coalesces)])
def test_training_ends_with_the_same_bits(train: Callable[[], list[Any]]) -> None:
    dist.set_debug_level(dist.DebugLevel.OFF)
    calm = run_ranks(2, train)
    dist.set_debug_level(dist.DebugLevel.DETAIL)
    for ours, theirs in zip(run_ranks(2, train), calm, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def shapes_differ() -> str:
    with pytest.raises(RuntimeError) as raised:
        dist.all_reduce(torch.ones(8 + dist.get_rank()))
    return str(raised.value)


def test_a_mismatch_that_pytorch_looks_for_is_explained_by_it() -> None:
    for text in run_ranks(2, shapes_differ):
        assert "Detected mismatch between collectives on ranks." in text
        assert "TensorShape=[8]" in text
        assert "TensorShape=[9]" in text


def operations_differ() -> str:
    op = dist.ReduceOp.SUM if dist.get_rank() == 0 else dist.ReduceOp.MAX
    with pytest.raises(dist.DistBackendError) as raised:
        dist.all_reduce(torch.ones(8), op)
    return str(raised.value)


def test_one_that_it_does_not_look_for_is_explained_by_ringtree() -> None:
    for text in run_ranks(2, operations_differ):
        assert re.search(r"^Mismatch: rank \d, all_reduce #1 ", text)
        for op in ("sum", "max"):
            assert f"called all_reduce #1 (float32 x 8, {op}, " in text
