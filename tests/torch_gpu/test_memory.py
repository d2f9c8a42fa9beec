"""What a call on the group's stream uses, PyTorch's allocator gives to nobody before the call is over.

The other rank comes only when the tensor has been dropped and its memory would have been written: until then
the call cannot have gone far. More goes round than the links hold.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import run_ranks
from torch_gpu.tensors import missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

ROWS, COLUMNS = 1024, 2048  # of float32: 8 MiB


def tensor(value: float) -> torch.Tensor:
    return to_gpu(torch.full((ROWS, COLUMNS), value))


def all_reduce(x: torch.Tensor) -> Any:
    return dist.all_reduce(x, async_op=True)


def all_reduce_strided(x: torch.Tensor) -> Any:
    """The group copies it, and the copy back."""
    return dist.all_reduce(x.t(), async_op=True)


def message(x: torch.Tensor) -> Any:
    return dist.isend(x, 1) if dist.get_rank() == 0 else dist.irecv(x, 0)


def message_strided(x: torch.Tensor) -> Any:
    return message(x.t())


# What rank 1 gets from 1.0 and its own 2.0.
EXPECTED: dict[Callable[[torch.Tensor], Any], float] = {
    all_reduce: 3.0,
    all_reduce_strided: 3.0,
    message: 1.0,
    message_strided: 1.0,
}


def drop_and_write(call: Callable[[torch.Tensor], Any]) -> list[float]:
    """What is in the result on rank 1; on rank 0 in what was allocated behind the call."""
    store = dist.distributed_c10d._get_default_store()
    dist.all_reduce(to_gpu(torch.ones(1)))  # opens the fabric
    tensors = [tensor(0.0) for _ in range(5)]
    del tensors  # to allocate more may be to wait for the device
    if dist.get_rank() == 1:
        x = tensor(2.0)
        store.wait(["written"])
        call(x).wait()
        dist.barrier()
        return x.cpu().unique().tolist()
    x = tensor(1.0)
    kept = (
        x if call in (all_reduce_strided, message_strided) else None
    )  # there the group's copy is what counts
    call(x)
    del x
    others = [tensor(-1.0) for _ in range(3)]
    found = [value for each in others for value in each.cpu().unique().tolist()]  # written, now
    store.set("written", "")
    dist.barrier()
    del kept
    return [value for each in others for value in each.cpu().unique().tolist()] + found


@pytest.mark.parametrize("call", EXPECTED, ids=lambda call: call.__name__)
def test_memory_of_a_call_under_way_serves_nobody_else(call: Callable[[torch.Tensor], Any]) -> None:
    written, result = run_ranks(2, drop_and_write, call)
    assert result == [EXPECTED[call]]
    assert written == [-1.0] * 6
