"""Models train on a GPU as they do on the CPU: replicated, sharded, and of both kinds in one group."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch_backend.ranks import run_ranks
from torch_gpu.tensors import BOTH, make_storages_resizable, make_torch_cuda_work, missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

Parallelize = Callable[[torch.nn.Sequential, str], torch.nn.Module]


def replicate(model: torch.nn.Sequential, kind: str) -> torch.nn.Module:
    """DDP: every rank has all parameters."""
    return DistributedDataParallel(model)


def shard(model: torch.nn.Sequential, kind: str) -> torch.nn.Module:
    """FSDP2: every rank has a part of each layer's; the layers gather and scatter on streams of their own."""
    make_storages_resizable()
    mesh = dist.init_device_mesh(kind, (dist.get_world_size(),))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(parallelize: Parallelize, on_gpu: bool, steps: int = 3) -> list[list[float]]:
    make_torch_cuda_work()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).double()
    if on_gpu:
        model = model._apply(to_gpu)
    parallel = parallelize(model, "cuda" if on_gpu else "cpu")
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1, foreach=False)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(steps):
        x = torch.randn(5, 8, generator=generator, dtype=torch.float64)
        loss = parallel(to_gpu(x) if on_gpu else x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [whole(parameter).detach().cpu().flatten().tolist() for parameter in model.parameters()]


def whole(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("parallelize", [replicate, shard])
def test_training_gives_the_same_as_on_the_cpu(parallelize: Parallelize, world: int) -> None:
    on_cpu, on_gpu = run_ranks(world, train, parallelize, False), run_ranks(world, train, parallelize, True)
    for expected, found in zip(on_cpu, on_gpu, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert one == pytest.approx(other, rel=1e-12)


def train_both() -> list[list[list[float]]]:
    return [train(replicate, on_gpu, 1) for on_gpu in (False, True)]


def test_models_of_both_kinds_train_in_one_group() -> None:
    for on_cpu, on_gpu in run_ranks(2, train_both, backend=BOTH):
        for expected, found in zip(on_cpu, on_gpu, strict=True):
            assert found == pytest.approx(expected, rel=1e-12)
