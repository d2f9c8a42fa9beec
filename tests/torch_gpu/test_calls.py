"""Collectives and messages of tensors on a GPU: the same results as on the CPU, in the order of their streams."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import run_ranks
from torch_gpu.tensors import make_torch_cuda_work, missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

Place = Callable[[torch.Tensor], torch.Tensor]


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
    make_torch_cuda_work()
    with torch.cuda.stream(torch.cuda.Stream()):
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
