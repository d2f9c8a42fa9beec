"""Torch's tensors on a GPU: its own where it has CUDA and a GPU, else those of the emulated device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# emulated_torch.cpp, which conftest.py loads before torch.
_IS_EMULATED = hasattr(torch.ops.emulated_cuda, "to_cuda")


def missing() -> str:
    """Why torch has no such tensors here; empty if it has."""
    if _IS_EMULATED or torch.cuda.is_available():
        return ""
    return "no GPU for a PyTorch that is built for CUDA" if torch.version.cuda else "this PyTorch has no CUDA"


def to_gpu(x: torch.Tensor) -> torch.Tensor:
    """A copy."""
    return torch.ops.emulated_cuda.to_cuda(x) if _IS_EMULATED else x.cuda()


class OnAnotherStream:
    """The current stream is a new one."""

    def __enter__(self) -> None:
        if _IS_EMULATED:
            self._before = torch.ops.emulated_cuda.set_stream(torch.ops.emulated_cuda.new_stream())
        else:
            self._context: Any = torch.cuda.stream(torch.cuda.Stream())
            self._context.__enter__()

    def __exit__(self, *_: object) -> None:
        if _IS_EMULATED:
            torch.ops.emulated_cuda.set_stream(self._before)
        else:
            self._context.__exit__(None, None, None)


@contextmanager
def _on(stream: torch.Stream) -> Iterator[None]:
    with stream:
        yield


def make_torch_cuda_work() -> None:
    """For this process from now on: devices, streams and events of torch.cuda, and storages that are resized.

    It does already where PyTorch has CUDA.
    """
    if not _IS_EMULATED:
        return
    from torch.distributed.fsdp._fully_shard import _fsdp_param as parameters
    from torch.distributed.fsdp._fully_shard import _fsdp_param_group as groups

    cuda: Any = torch.cuda
    cuda.is_available = cuda.is_initialized = lambda: True
    cuda.device_count, cuda.current_device = lambda: 1, lambda: 0
    cuda.Stream = lambda device=None, priority=0: torch.Stream(device="cuda:0")
    cuda.Event = lambda *_, **__: torch.Event(device="cuda:0")
    cuda.current_stream = lambda device=None: torch.accelerator.current_stream("cuda:0")
    cuda.stream = _on

    def resized(of_cpu: Callable[[torch.Tensor], None], keeps: bool) -> Callable[[torch.Tensor], None]:
        def resize(x: torch.Tensor) -> None:
            if x.is_cuda:
                torch.ops.emulated_cuda.resize_storage(x, x.numel() * x.itemsize if keeps else 0)
            else:
                of_cpu(x)

        return resize

    parameters.free_storage = resized(parameters.free_storage, False)
    parameters.alloc_storage = groups.alloc_storage = resized(parameters.alloc_storage, True)


if _IS_EMULATED:
    torch.cuda.get_device_capability = lambda _=None: (9, 0)  # broadcast asks whether it may move float8
