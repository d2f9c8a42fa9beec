"""Torch's tensors on a GPU: its own where it has CUDA and a GPU, else those of the emulated device."""

import os
from collections.abc import Callable
from typing import Any

import torch

# emulated_torch.cpp, which conftest.py loads before torch.
_IS_EMULATED = hasattr(torch.ops.emulated_cuda, "to_cuda")

BOTH = "cpu:ringtree,cuda:ringtree"  # one group for tensors on CPUs and on GPUs


def missing() -> str:
    """Why torch has no such tensors here; empty if it has."""
    if _IS_EMULATED or torch.cuda.is_available():
        return ""
    return "no GPU for a PyTorch that is built for CUDA" if torch.version.cuda else "this PyTorch has no CUDA"


def to_gpu(x: torch.Tensor) -> torch.Tensor:
    """A copy."""
    return torch.ops.emulated_cuda.to_cuda(x) if _IS_EMULATED else x.cuda()


class _Stream(torch.Stream):
    """torch.cuda.Stream."""

    def __new__(cls, device: Any = None, priority: int = 0, **ids: int) -> "_Stream":
        if ids:
            return super().__new__(cls, **ids)
        return super().__new__(cls, device=_device(device), priority=priority)

    @property
    def cuda_stream(self) -> int:
        return self.stream_id


def _device(device: Any) -> torch.device:
    if isinstance(device, torch.device) and device.index is not None:
        return device
    return torch.device("cuda", device if isinstance(device, int) else torch.ops.emulated_cuda.get_device())


def _current_stream(device: Any = None) -> _Stream:
    stream = torch.accelerator.current_stream(_device(device))
    return _stream(stream.stream_id, stream.device_index)


def _stream(number: int, device: int) -> _Stream:
    kind = torch.accelerator.current_stream("cuda:0").device_type
    return _Stream(stream_id=number, device_index=device, device_type=kind)


def _set_stream(stream: torch.Stream) -> None:
    """As torch.cuda.set_stream: its device becomes the current one."""
    torch.ops.emulated_cuda.set_device(stream.device_index)
    torch.ops.emulated_cuda.set_stream(stream.stream_id)


def _exchange_device(device: int) -> int:
    """As torch.cuda._exchange_device: a negative one changes nothing."""
    if device < 0:
        return -1
    return int(torch.ops.emulated_cuda.set_device(device))


def make_torch_cuda_work() -> None:
    """For this process from now on: devices, streams and events of torch.cuda.

    What stands in is what PyTorch's own module would have from C++; torch.cuda.stream and torch.cuda.device,
    which are Python, are PyTorch's. It does already where PyTorch has CUDA.
    """
    if not _IS_EMULATED:
        return
    cuda: Any = torch.cuda
    cuda.is_available = cuda.is_initialized = lambda: True
    cuda._lazy_init = lambda: None
    cuda.device_count = lambda: int(os.environ.get("RINGTREE_EMULATED_DEVICES", "1"))
    cuda.current_device, cuda.set_device = torch.ops.emulated_cuda.get_device, _exchange_device
    cuda._exchange_device = cuda._maybe_exchange_device = _exchange_device
    cuda.Stream, cuda.current_stream, cuda.set_stream = _Stream, _current_stream, _set_stream
    cuda.default_stream = lambda device=None: _stream(0, _device(device).index)
    cuda.Event = lambda *_, **__: torch.Event(device="cuda:0")


def make_storages_resizable() -> None:
    """For this process from now on, as FSDP resizes them. They are already where PyTorch has CUDA."""
    if not _IS_EMULATED:
        return
    from torch.distributed.fsdp._fully_shard import _fsdp_param as parameters
    from torch.distributed.fsdp._fully_shard import _fsdp_param_group as groups

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
