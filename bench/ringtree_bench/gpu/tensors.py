"""PyTorch, where it is installed and finds a GPU."""

from functools import cache
from typing import Any

from ringtree_bench.gpu.memory import View


@cache  # threads that look in vain for the same module at once disturb one another
def torch_of_gpu() -> Any:
    """The module torch; None if it is not there, or sees no GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def as_tensor(view: View, torch: Any) -> Any:
    """The same memory as a tensor."""
    dtype = getattr(torch, view.dtype)
    if view.count == 0:
        return torch.empty(0, dtype=dtype, device="cuda")
    return torch.as_tensor(view.as_bytes(), device="cuda").view(dtype)
