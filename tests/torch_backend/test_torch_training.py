"""Training with PyTorch's own parallelism over ringtree ends where it ends over Gloo, from the same seed."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.tensor import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch_backend.ranks import TorchRanks, run_ranks

STEPS = 4
WIDTH = 16


class Net(nn.Module):
    """Two layers that every step uses, and one that only even steps use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, 1)
        self.sometimes = nn.Linear(4 * WIDTH, 4 * WIDTH)

    def forward(self, x: torch.Tensor, step: int = 0) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        if step % 2 == 0:
            hidden = hidden + self.sometimes(hidden)
        return self.last(hidden)


def batch(step: int, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(100 * step + (dist.get_rank() if rank is None else rank))
    x = torch.randn(8, WIDTH, generator=chance)
    return x, x.sum(1, keepdim=True)


def state_of(model: nn.Module) -> list[Any]:
    return [value.detach().clone().numpy() for value in model.state_dict().values()]


def train_ddp(options: dict[str, Any], accumulate: bool, uneven: bool) -> list[Any]:
    torch.manual_seed(0)
    model = DistributedDataParallel(Net(), bucket_cap_mb=0.01, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    some_are_unused = options.get("find_unused_parameters", False)
    steps = STEPS + (dist.get_rank() if uneven else 0)
    with model.join() if uneven else nullcontext():
        for step in range(steps):
            x, y = batch(step)
            context = model.no_sync() if accumulate and step % 2 == 0 else nullcontext()
            with context:
                nn.functional.mse_loss(model(x, step if some_are_unused else 0), y).backward()
            if not accumulate or step % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
    return state_of(model.module)


def both_ways(world: int, train: Callable[..., Any], *args: Any) -> None:
    """Over ringtree as over Gloo; and every rank as the first, where ranks are to end alike."""
    ours = run_ranks(world, train, *args, backend="ringtree")
    theirs = run_ranks(world, train, *args, backend="gloo")
    for own, other in zip(ours, theirs, strict=True):
        assert len(own) == len(other) > 0
        for one, another in zip(own, other, strict=True):
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(another), rtol=1e-4, atol=1e-5)


DDP = {
    "plain": ({}, False, False),
    "accumulation under no_sync": ({}, True, False),
    "static graph": ({"static_graph": True}, False, False),
    "unused parameters": ({"find_unused_parameters": True}, False, False),
    "gradients are views of buckets": ({"gradient_as_bucket_view": True}, False, False),
    "uneven inputs": ({}, False, True),
}


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", DDP)
def test_ddp(name: str, world: int) -> None:
    both_ways(world, train_ddp, *DDP[name])


def ddp_ends_alike() -> list[Any]:
    return train_ddp({}, False, False)


def test_all_ranks_of_ddp_end_with_the_same_bits() -> None:
    first, second = run_ranks(2, ddp_ends_alike)
    for one, another in zip(first, second, strict=True):
        assert (one == another).all()


def train_with_hook() -> list[Any]:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    torch.manual_seed(0)
    model = DistributedDataParallel(Net())
    model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    for step in range(STEPS):
        x, y = batch(step)
        nn.functional.mse_loss(model(x), y).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


def test_ddp_with_a_communication_hook() -> None:
    both_ways(2, train_with_hook)


def train_fsdp(in_blocks: bool = False) -> list[Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, 1))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if in_blocks and dist.get_backend() == "ringtree":
        for module in (model, model[0], model[2]):
            module.set_allocate_memory_from_process_group_for_comm(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(STEPS):
        x, y = batch(step)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.full_tensor().detach().numpy() for parameter in model.parameters()]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_fsdp2(world: int, in_blocks: bool) -> None:
    both_ways(world, train_fsdp, in_blocks)


def train_tensor_parallel() -> list[Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        x, _ = batch(step, rank=0)
        model(x).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.full_tensor().detach().numpy() for parameter in model.parameters()]


@pytest.mark.parametrize("world", [2, 4])
def test_tensor_parallel(world: int) -> None:
    both_ways(world, train_tensor_parallel)


def train_pipeline(schedule: str) -> list[Any]:
    n, rank = dist.get_world_size(), dist.get_rank()
    per_rank = 2 if schedule == "interleaved" else 1
    stages = []
    for i in range(per_rank):
        index = rank + i * n
        torch.manual_seed(index)
        module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
        stages.append(PipelineStage(module, index, n * per_rank, torch.device("cpu")))
    kinds = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B, "interleaved": ScheduleInterleaved1F1B}
    given = stages if schedule == "interleaved" else stages[0]
    run = kinds[schedule](given, 2 * n, loss_fn=nn.functional.mse_loss)
    torch.manual_seed(99)
    x, y = torch.randn(8 * n, WIDTH), torch.randn(8 * n, WIDTH)
    for _ in range(2):
        if rank == 0 and rank == n - 1:
            run.step(x, target=y)
        elif rank == 0:
            run.step(x)
        elif rank == n - 1:
            run.step(target=y)
        else:
            run.step()
    return [parameter.grad.numpy() for stage in stages for parameter in stage.submod.parameters()]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
def test_pipelines(schedule: str, world: int) -> None:
    both_ways(world, train_pipeline, schedule)


def sharded(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, 3))
    return fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))


def save(folder: str, asynchronous: bool) -> list[Any]:
    model = sharded(0)
    if asynchronous:
        dcp.async_save(model.state_dict(), checkpoint_id=folder).result()
    else:
        dcp.save(model.state_dict(), checkpoint_id=folder)
    return [parameter.full_tensor().detach().numpy() for parameter in model.parameters()]


def load(folder: str) -> list[Any]:
    model = sharded(1)
    state = model.state_dict()
    dcp.load(state, checkpoint_id=folder)
    model.load_state_dict(state)
    return [parameter.full_tensor().detach().numpy() for parameter in model.parameters()]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_checkpoints_are_loaded_by_another_number_of_ranks(asynchronous: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        saved = run_ranks(2, save, str(Path(folder) / "it"), asynchronous)[0]
        for loaded in run_ranks(3, load, str(Path(folder) / "it")):
            for one, another in zip(saved, loaded, strict=True):
                assert (one == another).all()


def differentiable() -> list[Any]:
    from torch.distributed.nn.functional import all_gather, all_reduce, all_to_all, reduce_scatter

    n, rank = dist.get_world_size(), dist.get_rank()
    x = torch.arange(4.0 * n).view(n, 4).add(rank).requires_grad_()
    total = all_reduce(x.sin()).sum()
    total = total + sum((i + 1) * part.pow(2).sum() for i, part in enumerate(all_gather(x)))
    total = total + reduce_scatter(torch.empty(4), [row.exp() for row in x * 0.01]).sum()
    swapped = all_to_all([torch.empty(4) for _ in range(n)], list(x.cos()))
    total = total + sum((rank + i) * part.sum() for i, part in enumerate(swapped))
    total.backward()
    return [x.grad.numpy()]


def test_differentiable_collectives() -> None:
    both_ways(2, differentiable)


def compiled() -> list[Any]:
    import torch.distributed._functional_collectives as functional

    group = dist.group.WORLD

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step(x: torch.Tensor) -> torch.Tensor:
        summed = functional.all_reduce(x * 2, "sum", group)
        gathered = functional.all_gather_tensor(summed + 1, 0, group)
        return functional.reduce_scatter_tensor(gathered, "sum", 0, group)

    x = torch.arange(6.0) + dist.get_rank()
    return [functional.wait_tensor(step(x)).numpy()]


def test_functional_collectives_under_compile() -> None:
    both_ways(2, compiled)


def compiled_to_machine_code() -> list[float]:
    import torch.distributed._functional_collectives as functional
    from torch._inductor import config

    config.compile_threads = 1  # in this process, not in a pool

    @torch.compile(backend="inductor", fullgraph=True)
    def step(x: torch.Tensor) -> torch.Tensor:
        return functional.all_reduce(x * 2, "sum", dist.group.WORLD) + 1

    return step(torch.arange(4.0) + dist.get_rank()).tolist()


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_functional_collective_under_inductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with TorchRanks(2, compiled_to_machine_code) as ranks:
        for outcome in ranks.outcomes(timeout=280):  # the compiler may take its time
            assert outcome.result() == [3, 7, 11, 15]
