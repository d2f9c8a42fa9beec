"""Groups made from groups, on several kinds of devices, and as those see them who look on from outside."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from ringtree.cli import main
from torch_backend.ranks import run_ranks

# dist.split_group, which ends in the method of the same name, asks for an accelerator first: tests/torch_gpu.


def split_off() -> tuple[int, int, float] | None:
    """Ranks 0 and 2 of three."""
    part = dist.distributed_c10d._get_default_group().split_group([0, 2], group_name="pair")
    if part is None:
        return None
    x = torch.tensor([1.0 + dist.get_rank()])
    part.allreduce([x]).wait()
    return part.rank(), part.size(), x.item()


def test_a_group_can_be_split() -> None:
    assert run_ranks(3, split_off) == [(0, 2, 4), None, (1, 2, 4)]


def merge_halves(folder: str) -> tuple[int, float]:
    everybody, rank = dist.distributed_c10d._get_default_group(), dist.get_rank()
    half = everybody.split_group([0, 1] if rank < 2 else [2, 3], group_name=f"half {rank // 2}")
    store = dist.FileStore(str(Path(folder) / "store"), 4)
    whole = half.merge_remote_group(store, 4, timedelta(seconds=60), "whole")
    x = torch.tensor([1.0 + rank])
    whole.allreduce([x]).wait()
    return whole.rank(), x.item()


def test_groups_can_be_merged() -> None:
    with tempfile.TemporaryDirectory() as folder:
        merged = run_ranks(4, merge_halves, folder)
    assert sorted(rank for rank, _ in merged) == [0, 1, 2, 3]
    assert {total for _, total in merged} == {10}


def beside_another_backend() -> list[str]:
    group = dist.distributed_c10d._get_default_group()
    x = torch.ones(1)
    dist.all_reduce(x)
    assert x.item() == 2
    return [type(group._get_backend(torch.device(kind))).__name__ for kind in ("cpu", "cuda")]


def test_other_devices_may_have_another_backend() -> None:
    assert run_ranks(2, beside_another_backend, backend="cpu:ringtree,cuda:gloo") == (
        [["ProcessGroupRingtree", "ProcessGroupGloo"]] * 2
    )


def elsewhere() -> None:
    """`meta` stands for any device but the CPU; c10d itself would not bring its tensors here."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    with pytest.raises(
        ValueError,
        match="rank 0, all_reduce: ringtree moves tensors of CPUs and of GPUs by CUDA, not one on meta",
    ):
        backend.allreduce([torch.ones(3, device="meta")], dist.AllreduceOptions())


def test_tensors_on_another_device_are_refused() -> None:
    run_ranks(1, elsewhere)


def seen_from_outside() -> str:
    part = dist.new_group([0, 1])
    dist.all_reduce(torch.ones(1000), group=part)
    result = CliRunner().invoke(main, ["top", str(os.getpid()), "--once"], env={"COLUMNS": "200"})
    dist.barrier()
    return result.output


def test_top_names_process_groups_and_their_calls() -> None:
    for output in run_ranks(2, seen_from_outside):
        assert " (process group 0), 2 ranks on " in output
        assert " (process group 1), 2 ranks on " in output
        assert "computes since all_reduce #1 (float32 x 1000, sum, " in output
