"""Torch's tensors on a GPU: its own where it has CUDA and a GPU, else those of the emulated device."""

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


if _IS_EMULATED:
    torch.cuda.get_device_capability = lambda _=None: (9, 0)  # broadcast asks whether it may move float8
