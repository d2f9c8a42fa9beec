"""Tensors on a GPU: the same results as on the CPU, in the order of their streams, and the same errors."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch_backend.ranks import TorchRanks, run_ranks
from torch_gpu.tensors import (
    OnAnotherStream,
    make_storages_resizable,
    make_torch_cuda_work,
    missing,
    to_gpu,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

Place = Callable[[torch.Tensor], torch.Tensor]
Parallelize = Callable[[torch.nn.Sequential, str], torch.nn.Module]


def own(count: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """What no other rank has; small whole numbers, which every order adds to the same."""
    generator = torch.Generator().manual_seed(1000 * seed + dist.get_rank())
    return torch.randint(0, 5, (count,), generator=generator).to(dtype)


def n() -> int:
    return dist.get_world_size()


def all_reduce(place: Place, op: Any = dist.ReduceOp.SUM) -> list[torch.Tensor]:
    x = place(own(1003))
    dist.all_reduce(x, op)
    return [x]


def all_reduce_strided(place: Place) -> list[torch.Tensor]:
    x = place(own(1000).view(20, 50)).t()
    dist.all_reduce(x)
    return [x]


def all_reduce_half(place: Place) -> list[torch.Tensor]:
    x = place(own(77, torch.bfloat16))
    dist.all_reduce(x, dist.ReduceOp.AVG)
    return [x]


def all_reduce_coalesced(place: Place) -> list[torch.Tensor]:
    tensors = [place(own(count, seed=count)) for count in (3, 500, 40)]
    with dist.distributed_c10d._coalescing_manager(device=tensors[0].device):
        for tensor in tensors:
            dist.all_reduce(tensor)
    return tensors


def broadcast(place: Place) -> list[torch.Tensor]:
    x = place(own(55))
    dist.broadcast(x, n() - 1)
    return [x]


def reduce(place: Place) -> list[torch.Tensor]:
    x = place(own(56))
    dist.reduce(x, 0)
    return [x] if dist.get_rank() == 0 else []


def all_gather(place: Place) -> list[torch.Tensor]:
    parts = [place(torch.zeros(9)) for _ in range(n())]
    dist.all_gather(parts, place(own(9)))
    return parts


def all_gather_into(place: Place) -> list[torch.Tensor]:
    whole = place(torch.zeros(11 * n()))
    dist.all_gather_into_tensor(whole, place(own(11)))
    return [whole]


def reduce_scatter(place: Place) -> list[torch.Tensor]:
    part = place(torch.zeros(13))
    dist.reduce_scatter(part, list(place(own(13 * n())).chunk(n())))
    return [part]


def reduce_scatter_tensor(place: Place) -> list[torch.Tensor]:
    part = place(torch.zeros(14))
    dist.reduce_scatter_tensor(part, place(own(14 * n())))
    return [part]


def all_to_all(place: Place) -> list[torch.Tensor]:
    parts = [place(torch.zeros(7)) for _ in range(n())]
    dist.all_to_all(parts, list(place(own(7 * n())).chunk(n())))
    return parts


def all_to_all_single(place: Place) -> list[torch.Tensor]:
    rank = dist.get_rank()
    sizes = [[(i + j) % 3 for j in range(n())] for i in range(n())]
    whole = place(torch.zeros(sum(row[rank] for row in sizes)))
    dist.all_to_all_single(whole, place(own(sum(sizes[rank]))), [row[rank] for row in sizes], sizes[rank])
    return [whole]


def gather(place: Place) -> list[torch.Tensor]:
    parts = [place(torch.zeros(8)) for _ in range(n())] if dist.get_rank() == 1 else None
    dist.gather(place(own(8)), parts, dst=1)
    return parts or []


def scatter(place: Place) -> list[torch.Tensor]:
    part = place(torch.zeros(6))
    dist.scatter(part, list(place(own(6 * n())).chunk(n())) if dist.get_rank() == 1 else None, src=1)
    return [part]


def messages(place: Place) -> list[torch.Tensor]:
    """Round a circle, one after the other."""
    rank, x, arrived = dist.get_rank(), place(own(31)), place(torch.zeros(31))
    for sender in range(n()):
        if rank == sender:
            dist.send(x, (rank + 1) % n())
        elif rank == (sender + 1) % n():
            dist.recv(arrived, sender)
    return [arrived]


def messages_at_once(place: Place) -> list[torch.Tensor]:
    """To and from everybody in one batch, more than the links hold; one of them strided."""
    rank = dist.get_rank()
    peers = [peer for peer in range(n()) if peer != rank]
    arrived = [place(torch.zeros(200_000)) for _ in peers]
    strided = place(torch.zeros(5, 4)).t()
    works = dist.batch_isend_irecv(
        [
            *(dist.P2POp(dist.isend, place(own(200_000, seed=peer)), peer) for peer in peers),
            *(dist.P2POp(dist.irecv, x, peer) for x, peer in zip(arrived, peers, strict=True)),
            dist.P2POp(dist.isend, place(own(20, seed=9)).view(4, 5), (rank + 1) % n()),
            dist.P2POp(dist.irecv, strided, (rank - 1) % n()),
        ]
    )
    for work in works:
        work.wait()
    return [*arrived, strided]


CALLS = [
    all_reduce,
    all_reduce_strided,
    all_reduce_half,
    all_reduce_coalesced,
    broadcast,
    reduce,
    all_gather,
    all_gather_into,
    reduce_scatter,
    reduce_scatter_tensor,
    all_to_all,
    all_to_all_single,
    gather,
    scatter,
    messages,
    messages_at_once,
]


def same_on_both() -> list[str]:
    """The calls whose results differ."""
    dist.all_reduce(to_gpu(torch.ones(1)))
    differing = []
    for call in CALLS:
        expected = call(lambda x: x.clone())
        found = call(to_gpu)
        assert all(x.is_cuda for x in found)
        if [x.tolist() for x in expected] != [x.cpu().tolist() for x in found]:
            differing.append(call.__name__)
    dist.barrier()
    return differing


@pytest.mark.parametrize("world", [2, 3])
def test_results_are_those_of_the_cpu(world: int) -> None:
    assert run_ranks(world, same_on_both) == [[]] * world


def overlap() -> list[list[float]]:
    """Calls on the group's stream, between others on the program's."""
    found = []
    with OnAnotherStream():
        x = to_gpu(torch.ones(50_000))
        for _ in range(3):
            x.mul_(2)
            work = dist.all_reduce(x, async_op=True)
            work.wait()
            x.add_(1)
        found.append(x.cpu().unique().tolist())
        y = to_gpu(torch.ones(10))
        future = dist.all_reduce(y, async_op=True).get_future()
        found.append(future.then(lambda done: done.value()[0] * 10).wait().cpu().unique().tolist())
        dist.barrier()
    return found


def test_streams_keep_calls_in_order() -> None:
    # ((1 * 2 * 2 + 1) * 4 + 1) * 4 + 1
    assert run_ranks(2, overlap) == [[[85.0], [20.0]]] * 2


def replicate(model: torch.nn.Sequential, kind: str) -> torch.nn.Module:
    """DDP: every rank has all parameters."""
    return DistributedDataParallel(model)


def shard(model: torch.nn.Sequential, kind: str) -> torch.nn.Module:
    """FSDP2: every rank has a part of each layer's; the layers gather and scatter on streams of their own."""
    make_storages_resizable()
    mesh = dist.init_device_mesh(kind, (n(),))
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


# One group for tensors on CPUs and on GPUs

BOTH = "cpu:ringtree,cuda:ringtree"


def use_both() -> list[Any]:
    x, y = torch.tensor([1.0 + dist.get_rank()]), to_gpu(torch.tensor([10.0 + dist.get_rank()]))
    works = [dist.all_reduce(y, async_op=True), dist.all_reduce(x, async_op=True)]
    for work in works:
        work.wait()
    dist.broadcast(y, 1)
    parts = [torch.zeros(1) for _ in range(n())]
    dist.all_gather(parts, x)
    group = dist.distributed_c10d._get_default_group()
    kinds = [group._get_backend(torch.device(kind)) for kind in ("cpu", "cuda")]
    named = dist.get_backend_config() == BOTH and kinds[0] is kinds[1] and kinds[0].name() == "ringtree"
    return [named, y.item(), [part.item() for part in parts]]


def test_a_group_of_both_names_takes_tensors_of_both_kinds() -> None:
    assert run_ranks(2, use_both, backend=BOTH) == [[True, 21.0, [3.0, 3.0]]] * 2


def train_both() -> list[list[list[float]]]:
    return [train(replicate, on_gpu, 1) for on_gpu in (False, True)]


def test_models_of_both_kinds_train_in_one_group() -> None:
    for on_cpu, on_gpu in run_ranks(2, train_both, backend=BOTH):
        for expected, found in zip(on_cpu, on_gpu, strict=True):
            assert found == pytest.approx(expected, rel=1e-12)


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


# What goes wrong


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
