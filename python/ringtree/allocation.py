"""Arrays in memory that other processes can map: what Communicator.empty returns."""

import math
import sys
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from ringtree._core import DTYPES, allocate
from ringtree.errors import InvalidArgument


def empty(shape: int | Sequence[int], dtype: Any) -> Any:
    """See Communicator.empty; the text of its InvalidArgument is only the reason.

    Args:
        shape: a number of elements, or their number in each dimension.
        dtype: NumPy's, by object or name, or a `torch.dtype`.

    Raises:
        InvalidArgument: no collective takes such elements.
        TransportError: there is not so much memory.
    """
    lengths = (shape,) if isinstance(shape, SupportsIndex) else tuple(shape)
    count = math.prod(lengths)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(dtype, torch.dtype):
        _check(str(dtype).removeprefix("torch."))
        block = allocate(max(count, 1) * dtype.itemsize)  # Torch takes no empty buffer
        return torch.frombuffer(block, dtype=dtype, count=max(count, 1))[:count].view(lengths)
    kind = numpy_dtype(dtype)
    memory = memoryview(allocate(max(count * kind.itemsize, 1)))
    return np.frombuffer(memory, kind, count).reshape(lengths)


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """NumPy's type by object or name, also those of ml_dtypes.

    Raises:
        InvalidArgument: there is no such type, or no collective takes it.
    """
    kind = _known_dtype(dtype)
    _check(kind.name)
    return kind


def _known_dtype(dtype: Any) -> np.dtype[Any]:
    kind: np.dtype[Any]
    try:
        kind = np.dtype(dtype)
        return kind
    except TypeError:
        pass
    try:
        import ml_dtypes

        kind = np.dtype(getattr(ml_dtypes, dtype))
        return kind
    except (ImportError, AttributeError, TypeError):
        raise InvalidArgument(
            f"NumPy has no element type {dtype!r}; pass a torch.dtype, or install ml_dtypes for bfloat16 "
            "and float8"
        ) from None


def _check(name: str) -> None:
    if name not in DTYPES:
        raise InvalidArgument(f"there are no collectives of {name}; there are {', '.join(DTYPES)}")
