"""Each collective of torch.distributed over ringtree, against its definition computed in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import run_ranks

Tensor = torch.Tensor
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
TINY = (torch.float8_e4m3fn, torch.float8_e5m2)
COMPLEX = (torch.complex64, torch.complex128)
MOVED_ONLY = (torch.int16, torch.uint16, torch.complex32, torch.float8_e4m3fnuz)
SHAPES = ((1,), (7,), (3, 5), (0,), (1000,), (100_003,))

in_worlds = pytest.mark.parametrize("world", [2, 3])


def own(shape: tuple[int, ...], dtype: torch.dtype, rank: int | None = None) -> Tensor:
    """A tensor of small integers that any rank can make for any other."""
    chance = torch.Generator().manual_seed(1000 + (dist.get_rank() if rank is None else rank))
    return torch.randint(0, 4, shape, generator=chance).to(dtype)


def everybody(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    return [own(shape, dtype, rank) for rank in range(dist.get_world_size())]


def wide(tensors: list[Tensor]) -> Tensor:
    kind = torch.complex128 if tensors[0].is_complex() else torch.float64
    return torch.stack([tensor.to(kind) for tensor in tensors])


def same(actual: Tensor, expected: Tensor) -> None:
    """To the bit, whatever the type."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
    kind = bits[actual.element_size()]
    assert torch.equal(actual.contiguous().view(kind), expected.contiguous().view(kind))


REDUCTIONS: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "sum": (dist.ReduceOp.SUM, lambda all: all.sum(0)),
    "product": (dist.ReduceOp.PRODUCT, lambda all: all.prod(0)),
    "min": (dist.ReduceOp.MIN, lambda all: all.amin(0)),
    "max": (dist.ReduceOp.MAX, lambda all: all.amax(0)),
    "avg": (dist.ReduceOp.AVG, lambda all: all.mean(0)),
    "premul_sum": (dist._make_nccl_premul_sum(2.0), lambda all: (2 * all).sum(0)),
}


def reduce_everything() -> None:
    for name, (op, reference) in REDUCTIONS.items():
        only_floats = name in ("avg", "premul_sum")
        kinds = FLOATS if only_floats else (*FLOATS, *INTEGERS)
        for dtype in kinds:
            for shape in SHAPES:
                expected = reference(wide(everybody(shape, dtype))).to(dtype)
                x = own(shape, dtype)
                dist.all_reduce(x, op)
                if name == "avg":
                    torch.testing.assert_close(x, expected)
                else:
                    same(x, expected)
                root = dist.get_world_size() - 1
                y, before = own(shape, dtype), own(shape, dtype)
                dist.reduce(y, root, op)
                same(y, x if dist.get_rank() == root else before)


@in_worlds
def test_all_reduce_and_reduce_of_every_type_and_operation(world: int) -> None:
    run_ranks(world, reduce_everything)


def reduce_the_rest() -> None:
    n = dist.get_world_size()
    for dtype in INTEGERS:
        for op, combine in (
            (dist.ReduceOp.BAND, torch.bitwise_and),
            (dist.ReduceOp.BOR, torch.bitwise_or),
            (dist.ReduceOp.BXOR, torch.bitwise_xor),
        ):
            x, expected = own((100,), dtype), own((100,), dtype, 0)
            for rank in range(1, n):
                expected = combine(expected, own((100,), dtype, rank))
            dist.all_reduce(x, op)
            same(x, expected)
    for dtype in COMPLEX:
        x = own((50,), dtype) * (1 + 2j)
        expected = wide(everybody((50,), dtype)).sum(0).to(dtype) * (1 + 2j)
        dist.all_reduce(x)
        torch.testing.assert_close(x, expected)
    for dtype in TINY:
        x = own((50,), dtype)
        dist.all_reduce(x, dist.ReduceOp.MAX)
        same(x, wide(everybody((50,), dtype)).amax(0).to(dtype))
    x = own((50,), torch.bool)
    dist.all_reduce(x)
    same(x, torch.stack(everybody((50,), torch.bool)).any(0))


@in_worlds
def test_bitwise_operations_complex_numbers_float8_and_bool(world: int) -> None:
    run_ranks(world, reduce_the_rest)


def move_everything() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    for dtype in (*FLOATS, *INTEGERS, *TINY, *COMPLEX, *MOVED_ONLY, torch.bool):
        for shape in ((5,), (3, 5), (0,), (1000,)):
            all = everybody(shape, dtype)
            x = own(shape, dtype)
            dist.broadcast(x, n - 1)
            same(x, all[n - 1])

            out = torch.empty((n * shape[0], *shape[1:]), dtype=dtype)
            dist.all_gather_into_tensor(out, all[rank])
            same(out, torch.cat(all))
            apart = [torch.empty(shape, dtype=dtype) for _ in range(n)]
            dist.all_gather(apart, all[rank])
            for got, expected in zip(apart, all, strict=True):
                same(got, expected)

            collected = [torch.empty(shape, dtype=dtype) for _ in range(n)] if rank == 0 else None
            dist.gather(all[rank], collected, 0)
            for got, expected in zip(collected or [], all if rank == 0 else [], strict=True):
                same(got, expected)
            share = torch.empty(shape, dtype=dtype)
            dist.scatter(share, all if rank == 1 else None, 1)
            same(share, all[rank])

            whole = torch.cat([own(shape, dtype, rank * n + peer) for peer in range(n)])
            swapped = torch.empty_like(whole)
            dist.all_to_all_single(swapped, whole)
            same(swapped, torch.cat([own(shape, dtype, peer * n + rank) for peer in range(n)]))


@in_worlds
def test_moves_of_every_type(world: int) -> None:
    run_ranks(world, move_everything)


def uneven_shares() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    # From rank a to rank b go a + 2 * b + 1 rows.
    sent = [rank + 2 * peer + 1 for peer in range(n)]
    received = [peer + 2 * rank + 1 for peer in range(n)]
    x = torch.cat([torch.full((rows, 3), 10 * rank + peer) for peer, rows in enumerate(sent)])
    expected = torch.cat([torch.full((rows, 3), 10 * peer + rank) for peer, rows in enumerate(received)])
    out = torch.empty_like(expected)
    dist.all_to_all_single(out, x, received, sent)
    same(out, expected)

    outs = [torch.empty((rows, 3), dtype=torch.int64) for rows in received]
    dist.all_to_all(outs, list(x.split(sent)))
    same(torch.cat(outs), expected)

    parts = [torch.empty(peer + 1) for peer in range(n)]
    dist.all_gather(parts, torch.full((rank + 1,), float(rank)))
    for peer, part in enumerate(parts):
        same(part, torch.full((peer + 1,), float(peer)))

    mine = torch.empty(rank + 1)
    dist.reduce_scatter(mine, [torch.full((peer + 1,), float(rank + peer)) for peer in range(n)])
    same(mine, torch.full((rank + 1,), float(sum(range(n)) + n * rank)))


@in_worlds
def test_uneven_shares(world: int) -> None:
    run_ranks(world, uneven_shares)


def scatter_reductions() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    for dtype in FLOATS:
        all = [own((n * 11, 2), dtype, peer) for peer in range(n)]
        expected = wide(all).sum(0).to(dtype)[rank * 11 : (rank + 1) * 11]
        out = torch.empty((11, 2), dtype=dtype)
        dist.reduce_scatter_tensor(out, all[rank])
        same(out, expected)
        apart = torch.empty((11, 2), dtype=dtype)
        dist.reduce_scatter(apart, list(all[rank].clone().chunk(n)))
        same(apart, expected)


@in_worlds
def test_reduce_scatter(world: int) -> None:
    run_ranks(world, scatter_reductions)


def odd_layouts() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    x = torch.arange(12.0).view(3, 4).t() * (rank + 1)
    dist.all_reduce(x)
    same(x, torch.arange(12.0).view(3, 4).t() * sum(range(1, n + 1)))

    image = torch.full((2, 3, 4, 5), float(rank)).to(memory_format=torch.channels_last)
    dist.broadcast(image, 1)
    assert (image == 1).all()
    assert image.is_contiguous(memory_format=torch.channels_last)

    # One rank's tensor lies otherwise in memory: elements are matched by their index.
    grid = torch.arange(6.0).view(2, 3)
    y = grid.t().contiguous().t() if rank == 0 else grid.clone()
    dist.all_reduce(y)
    same(y.contiguous(), grid * n)

    every_other = torch.zeros(10)[::2]
    outs = [torch.zeros(10)[::2] for _ in range(n)]
    dist.all_gather(outs, every_other + rank)
    for peer, out in enumerate(outs):
        assert (out == peer).all()
    scalar = torch.tensor(float(rank))
    dist.all_reduce(scalar)
    assert scalar.item() == sum(range(n))


@in_worlds
def test_tensors_that_are_not_contiguous(world: int) -> None:
    run_ranks(world, odd_layouts)


def sparse_sums() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    dense = torch.zeros(6, 2)
    dense[rank] = 1
    dense[5] = rank
    x = dense.to_sparse(1)
    dist.all_reduce(x)
    expected = torch.zeros(6, 2)
    expected[:n] = 1
    expected[5] = sum(range(n))
    same(x.to_dense(), expected)


@in_worlds
def test_sparse_tensors_are_summed(world: int) -> None:
    run_ranks(world, sparse_sums)


def several_at_once() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    tensors = [torch.full((size,), float(rank)) for size in (1, 1000, 7)]
    with dist._coalescing_manager():
        for tensor in tensors:
            dist.all_reduce(tensor)
    for tensor in tensors:
        assert (tensor == sum(range(n))).all()
    outs = [torch.empty(n * 3), torch.empty(n * 5)]
    with dist._coalescing_manager(async_ops=True) as manager:
        for out in outs:
            dist.all_gather_into_tensor(out, torch.full((out.numel() // n,), float(rank)))
    manager.wait()
    for out in outs:
        same(out, torch.arange(float(n)).repeat_interleave(out.numel() // n))
    shares = [torch.empty(3), torch.empty(5)]
    with dist._coalescing_manager():
        for share in shares:
            dist.reduce_scatter_tensor(share, torch.ones(n * share.numel()))
    for share in shares:
        assert (share == n).all()


@in_worlds
def test_coalesced_calls(world: int) -> None:
    run_ranks(world, several_at_once)


def objects() -> list[Any]:
    n, rank = dist.get_world_size(), dist.get_rank()
    gathered: list[Any] = [None] * n
    dist.all_gather_object(gathered, {"rank": rank, "text": "x" * (rank * 1000)})
    shared = [("from", rank)]
    dist.broadcast_object_list(shared, 1)
    scattered: list[Any] = [None]
    dist.scatter_object_list(scattered, [f"for {peer}" for peer in range(n)] if rank == 0 else None, 0)
    assert [entry["rank"] for entry in gathered] == list(range(n))
    return [shared[0], scattered[0]]


@in_worlds
def test_objects(world: int) -> None:
    assert run_ranks(world, objects) == [[("from", 1), f"for {rank}"] for rank in range(world)]
