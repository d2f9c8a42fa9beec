"""PyTorch's symmetric memory: all-reduces of the same kinds as ours, over memory that all ranks map."""

import os
from functools import partial
from typing import Any

from ringtree_bench.cases import Case
from ringtree_bench.gpu.memory import Memory, stream_of
from ringtree_bench.gpu.rivals.protocol import Prepared
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.gpu.tensors import as_tensor, torch_of_gpu
from ringtree_bench.rivals.c10d import Gloo
from ringtree_bench.rivals.protocol import UnsupportedError

# Of a rank, of both kinds: one_shot_all_reduce_max_num_blocks and its sibling in PyTorch's
# CUDASymmetricMemoryOps.cu, which no setting changes.
_MOST_BLOCKS = 24
_SHARE = "TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES"  # PyTorch's word for several ranks on one GPU


class Symmetric:
    """What both have: a group to meet in, and buffers that PyTorch maps at all ranks."""

    name = ""
    blocks: int | None = _MOST_BLOCKS

    @classmethod
    def missing(cls, seat: Seat) -> str:
        """See `Peer.missing`."""
        if torch_of_gpu() is None:
            return "needs a PyTorch that finds a GPU"
        try:
            import torch.distributed._symmetric_memory  # noqa: F401
        except ImportError:
            return "this PyTorch has no symmetric memory"
        return Gloo.missing(seat.world)

    def __init__(self, seat: Seat) -> None:
        """Join; a collective."""
        import torch.distributed._symmetric_memory as symmetric_memory

        if seat.sharing > 1:
            os.environ.setdefault(_SHARE, "1")
        self._torch: Any = torch_of_gpu()
        self._symmetric: Any = symmetric_memory
        self._group = Gloo(seat.world)
        self._name = self._group.group.group_name
        self.version = self._group.version
        self._buffers: dict[tuple[int, str], Any] = {}  # mapped once for each size and type

    def prepare(self, case: Case, memory: Memory, algorithm: str) -> Prepared:
        """See `Rival.prepare`."""
        if case.collective.name != "all_reduce" or case.op != "sum":
            raise UnsupportedError("symmetric memory has an all_reduce of sums, and none of other kinds")
        x = as_tensor(memory.inputs(case)[0], self._torch)
        buffer, result = self._buffer(case), self._torch.empty_like(x)
        copy = partial(buffer.copy_, x)
        return self._prepared(x, buffer, result, copy)

    def _buffer(self, case: Case) -> Any:
        key = case.count, case.dtype
        if key not in self._buffers:
            dtype = getattr(self._torch, case.dtype)
            buffer = self._symmetric.empty(case.count, dtype=dtype, device="cuda")
            self._symmetric.rendezvous(buffer, self._name)
            self._buffers.clear()  # of the case before, with the same memory
            self._buffers[key] = buffer
        return self._buffers[key]

    def _prepared(self, x: Any, buffer: Any, result: Any, copy: Any) -> Prepared:
        raise NotImplementedError

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (RuntimeError, ValueError, TypeError)

    def close(self) -> None:
        """See `Rival.close`."""
        self._buffers.clear()
        self._group.close()


class OneShot(Symmetric):
    """Every rank reads the buffers of all, and writes its result elsewhere."""

    name = "symm_one_shot"

    def _prepared(self, x: Any, buffer: Any, result: Any, copy: Any) -> Prepared:
        call = partial(self._torch.ops.symm_mem.one_shot_all_reduce_out, buffer, "sum", self._name, result)
        return Prepared(call, stream_of(x), copy, partial(x.copy_, result))


class TwoShot(Symmetric):
    """Every rank reduces its share, in place, and then gets those of the others."""

    name = "symm_two_shot"

    def _prepared(self, x: Any, buffer: Any, result: Any, copy: Any) -> Prepared:
        call = partial(self._torch.ops.symm_mem.two_shot_all_reduce_, buffer, "sum", self._name)
        return Prepared(call, stream_of(x), copy, partial(x.copy_, buffer))
