"""Groups for tensors on CPUs and on GPUs, groups that are split, and what a group's backend allocates."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import run_ranks
from torch_gpu.tensors import BOTH, missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def use_both() -> list[Any]:
    x, y = torch.tensor([1.0 + dist.get_rank()]), to_gpu(torch.tensor([10.0 + dist.get_rank()]))
    works = [dist.all_reduce(y, async_op=True), dist.all_reduce(x, async_op=True)]
    for work in works:
        work.wait()
    dist.broadcast(y, 1)
    parts = [torch.zeros(1) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x)
    group = dist.distributed_c10d._get_default_group()
    kinds = [group._get_backend(torch.device(kind)) for kind in ("cpu", "cuda")]
    named = dist.get_backend_config() == BOTH and kinds[0] is kinds[1] and kinds[0].name() == "ringtree"
    return [named, y.item(), [part.item() for part in parts]]


def test_a_group_of_both_names_takes_tensors_of_both_kinds() -> None:
    assert run_ranks(2, use_both, backend=BOTH) == [[True, 21.0, [3.0, 3.0]]] * 2


def split() -> tuple[bool, float]:
    part = dist.distributed_c10d._get_default_group().split_group([0, 2], group_name="pair")
    if part is None:
        return True, 0
    x, y = torch.tensor([1.0 + dist.get_rank()]), to_gpu(torch.tensor([10.0 + dist.get_rank()]))
    part.allreduce([x]).wait()
    part.allreduce([y]).wait()
    kinds = [part._get_backend(torch.device(kind)) for kind in ("cpu", "cuda")]
    return kinds[0] is kinds[1], x.item() + y.item()


def test_a_part_of_a_group_has_one_backend_for_all_devices() -> None:
    assert run_ranks(3, split) == [(True, 26), (True, 0), (True, 26)]


def split_by_ranks(store: str) -> float:
    """dist.split_group, which asks for a group with a device of its own."""
    if not torch.cuda.is_available():  # which an emulated device is not part of
        torch.accelerator.is_available, torch.accelerator.device_count = lambda: True, lambda: 1
    rank, device = int(os.environ["RANK"]), torch.device("cuda:0")
    dist.init_process_group(
        "ringtree", store=dist.FileStore(store, 4), rank=rank, world_size=4, device_id=device
    )
    pair = dist.split_group(split_ranks=[[0, 2], [1, 3]])
    x, y = torch.tensor([1.0 + rank]), to_gpu(torch.tensor([10.0 + rank]))
    dist.all_reduce(x, group=pair)
    dist.all_reduce(y, group=pair)
    return x.item() + y.item()


def test_split_group(tmp_path: Path) -> None:
    assert run_ranks(4, split_by_ranks, str(tmp_path / "store"), join=False) == [26, 30, 26, 30]


def allocate() -> list[str]:
    device = to_gpu(torch.ones(1)).device
    backend = dist.distributed_c10d._get_default_group()._get_backend(device)
    x = backend.allocate_tensor(1 << 16, dtype=torch.float32, device=device)
    x.fill_(2)
    dist.all_reduce(x)
    return [str(x.device), str(x.dtype), str(x.cpu().unique().tolist())]


def test_allocated_tensors_are_on_the_gpu() -> None:
    assert run_ranks(2, allocate) == [["cuda:0", "torch.float32", "[4.0]"]] * 2
