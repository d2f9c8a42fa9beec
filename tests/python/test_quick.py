"""The short way through the binding: what goes there, what does not, and that both ways are one call."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import ringtree as rt
import torch
from ringtree import _core

NUMPY = ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool"]


@pytest.fixture
def quick():
    with rt.init() as comm:
        yield _core.Quick(comm._core)


@pytest.mark.parametrize("dtype", NUMPY)
def test_plain_arrays_of_numpy_go_the_short_way(quick: Any, dtype: str) -> None:
    assert quick.all_reduce(np.ones((3, 5), dtype), "max")
    assert quick.broadcast(np.empty(0, dtype), 0)


@pytest.mark.parametrize("dtype", rt.DTYPES)
def test_plain_tensors_go_the_short_way(quick: Any, dtype: str) -> None:
    assert quick.all_reduce(torch.ones(3, 5).to(getattr(torch, dtype)), "max")


def read_only() -> np.ndarray:
    x = np.ones(3)
    x.flags.writeable = False
    return x


UNUSUAL = {
    "strided": np.ones((4, 4))[:, 1],
    "transposed": np.ones((4, 3)).T,
    "read-only": read_only(),
    "foreign byte order": np.ones(3, ">f8"),
    "unaligned": np.frombuffer(bytearray(25), np.float64, 3, 1),
    "a type of ml_dtypes": np.ones(3, ml_dtypes.bfloat16),
    "a type that collectives lack": np.ones(3, np.uint16),
    "complex": np.ones(3, np.complex64),
    "a strided tensor": torch.ones(4, 4)[:, 1],
    "a tensor that requires grad": torch.ones(3, requires_grad=True),
    "a parameter": torch.nn.Parameter(torch.ones(3)),
    "a sparse tensor": torch.ones(3).to_sparse(),
    "a tensor without memory": torch.ones(3, device="meta"),
    "a tensor of a type that collectives lack": torch.ones(3, dtype=torch.int16),
    "a scalar": np.float64(1),
    "bytes": bytearray(8),
    "nothing": None,
}


@pytest.mark.parametrize("x", UNUSUAL.values(), ids=UNUSUAL)
def test_all_other_arrays_are_left_to_the_long_way(quick: Any, x: Any) -> None:
    assert not quick.all_reduce(x, "sum")
    assert not quick.recv(x, 0)


def test_what_is_asked_may_need_the_long_way_too(quick: Any) -> None:
    x, y = np.ones(4), np.ones(4)
    for op in ("premul_sum", rt.premul_sum(2), "nonsense", None):
        assert not quick.all_reduce(x, op)
        assert not quick.reduce(x, 0, op)
    for root in (1, -1, np.int64(0), None, 2**70):
        assert not quick.broadcast(x, root)
        assert not quick.reduce(x, root, "sum")
        assert not quick.gather(y, x, root)
        assert not quick.scatter(y, x, root)
        assert not quick.sendrecv(x, y, root, 0)
    for out in (x, x[:2], y.astype(np.float32), y[:3]):
        assert not quick.all_gather(out, x)
        assert not quick.reduce_scatter(out, x, "sum")
        assert not quick.all_to_all(out, x)
        assert not quick.gather(out, x, 0)
        assert not quick.scatter(out, x, 0)
    for recv in (x, x[:2], y.astype(np.float32)):
        assert not quick.sendrecv(x, recv, 0, 0)
    assert quick.all_gather(y, x)
    assert quick.reduce_scatter(y, x, "sum")
    assert quick.all_to_all(y, x)


def test_a_tensor_may_be_read_though_it_requires_grad(quick: Any) -> None:
    assert quick.broadcast(torch.ones(3, requires_grad=True), 0)


def test_wrong_use_of_the_binding_is_a_type_error(quick: Any) -> None:
    with pytest.raises(TypeError, match="1 arguments where 2 are due"):
        quick.all_reduce(np.ones(1))
    with pytest.raises(TypeError, match=r"takes a _core\.Communicator"):
        _core.Quick(None)


def every_call(comm: rt.Communicator, x: Any, whole: Any, algorithm: str) -> list[Any]:
    """The results of calls in which only `algorithm` decides which way they go."""

    def chosen(name: str) -> str:
        return comm.chosen(name, 8) if algorithm else "auto"

    total, part, reduced, own = (x.copy() for _ in range(4))
    gathered, turned, collected = (whole.copy() for _ in range(3))
    comm.all_reduce(total, algorithm=chosen("all_reduce"))
    comm.broadcast(part, 1, algorithm=chosen("broadcast"))
    comm.reduce(reduced, 1, "max", algorithm=chosen("reduce"))
    comm.gather(collected, x, 1, algorithm=chosen("gather"))
    comm.scatter(own, whole, 1, algorithm=chosen("scatter"))
    comm.all_gather(gathered, x, algorithm=chosen("all_gather"))
    comm.all_to_all(turned, whole, algorithm=chosen("all_to_all"))
    results = [total, part.copy(), reduced, own, gathered, turned, collected]
    comm.reduce_scatter(part, whole, algorithm=chosen("reduce_scatter"))
    comm.barrier(algorithm=chosen("barrier"))
    return [*results, part]


@pytest.mark.parametrize("world", [2, 3])
def test_both_ways_give_the_same_results(world: int) -> None:
    def compare(comm: rt.Communicator) -> None:
        rng = np.random.default_rng(comm.rank)
        x, whole = rng.random(5), rng.random(5 * world)
        for short, long in zip(
            every_call(comm, x, whole, ""), every_call(comm, x, whole, "same"), strict=True
        ):
            np.testing.assert_array_equal(short, long)

    rt.run_local(world, compare)
