"""What PyTorch users call: torch.distributed on CPU tensors, with Gloo and with ringtree as its backend."""

import socket
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ringtree_bench.check import Array
from ringtree_bench.collectives import ROOT
from ringtree_bench.rivals.protocol import Task, UnsupportedError
from ringtree_bench.world import World

_OPS = {
    "sum": "SUM",
    "prod": "PRODUCT",
    "min": "MIN",
    "max": "MAX",
    "avg": "AVG",
    "band": "BAND",
    "bor": "BOR",
    "bxor": "BXOR",
    "none": "SUM",
}


class Backend:
    """A process group of torch.distributed, one thread a rank."""

    name = ""
    backend = ""
    _open: ClassVar[int] = 0  # groups of this class in this process

    @classmethod
    def missing(cls, world: World) -> str:
        """See `Peer.missing`."""
        try:
            import torch.distributed as dist
        except ImportError:
            return "needs PyTorch: pip install torch"
        if not dist.is_available() or not dist.is_backend_available(cls.backend):
            return f"this PyTorch has no backend {cls.backend}"
        in_use = dist.is_initialized() and Backend._open == 0
        return "torch.distributed is already in use in this process" if in_use else ""

    def __init__(self, world: World) -> None:
        """Join; a collective."""
        import torch
        import torch.distributed

        dist: Any = torch.distributed  # not all of its public names are exported to type checkers
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        self._torch, self._dist = torch, dist
        self.version = f"torch {torch.__version__}"
        patience = timedelta(seconds=world.comm.timeout)
        if Backend._open == 0:
            self._open_first(world, patience)
        self.group = dist.new_group(backend=self.backend, timeout=patience)
        Backend._open += 1

    def _open_first(self, world: World, patience: timedelta) -> None:
        """The group that torch.distributed wants before all others."""
        dist = self._dist
        host = "127.0.0.1" if world.on_one_host else socket.gethostname()
        server = (
            dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=patience)
            if world.is_first
            else None
        )
        host, port = world.agree((host, server.port if server else 0))
        store = server or dist.TCPStore(host, port, is_master=False, timeout=patience)
        dist.init_process_group(
            self.backend, store=store, rank=world.rank, world_size=world.size, timeout=patience
        )

    def prepare(self, task: Task) -> Callable[[], object]:
        """See `Rival.prepare`."""
        dist = self._dist
        if task.op not in _OPS:
            raise UnsupportedError(f"torch.distributed has no {task.op}")
        op = getattr(dist.ReduceOp, _OPS[task.op])
        x, out = self._tensor(task.x), self._tensor(task.out)
        on_root = task.rank == ROOT
        group = self.group
        match task.collective:
            case "all_reduce":
                return partial(dist.all_reduce, x, op, group)
            case "reduce":
                return partial(dist.reduce, x, ROOT, op, group)
            case "broadcast":
                return partial(dist.broadcast, x, ROOT, group)
            case "all_gather":
                return partial(dist.all_gather_into_tensor, out, x, group)
            case "reduce_scatter":
                return partial(dist.reduce_scatter_tensor, out, x, op, group)
            case "all_to_all":
                return partial(dist.all_to_all_single, out, x, group=group)
            case "gather":
                return partial(dist.gather, x, list(out.chunk(task.world)) if on_root else None, ROOT, group)
            case "scatter":
                return partial(dist.scatter, out, list(x.chunk(task.world)) if on_root else None, ROOT, group)
            case "sendrecv":
                after, before = (task.rank + 1) % task.world, (task.rank - 1) % task.world

                def exchange() -> None:
                    sent, received = dist.isend(x, after, group), dist.irecv(out, before, group)
                    for work in (sent, received):
                        if work is not None:
                            work.wait()

                return exchange
        raise UnsupportedError(f"torch.distributed has no {task.collective}")

    def _tensor(self, array: Array) -> Any:
        """`array` as a tensor that shares its memory."""
        try:
            return self._torch.from_numpy(array)
        except TypeError:  # a type of ml_dtypes: the same bits under Torch's own name
            bits = array.view(np.uint8 if array.itemsize == 1 else np.int16)
            return self._torch.from_numpy(bits).view(getattr(self._torch, array.dtype.name))

    def refusals(self) -> tuple[type[Exception], ...]:
        """See `Rival.refusals`."""
        return (RuntimeError, ValueError, TypeError)

    def close(self) -> None:
        """See `Rival.close`."""
        Backend._open -= 1
        self._dist.destroy_process_group(self.group if Backend._open else None)


class Gloo(Backend):
    """PyTorch's own backend for CPU tensors."""

    name = backend = "gloo"


class C10d(Backend):
    """ringtree, through torch.distributed."""

    name, backend = "c10d", "ringtree"
