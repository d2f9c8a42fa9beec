"""Arrays in the memory of a GPU that peers can map."""

import math
import sys
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from ringtree import _core
from ringtree.allocation import numpy_dtype
from ringtree.buffers import STREAM_OF_THREAD
from ringtree.errors import InvalidArgument


def device_count() -> int:
    """How many GPUs this process sees.

    Raises:
        TransportError: the CUDA fabric cannot be loaded, or CUDA finds no GPU; says why.
    """
    return _core.gpu_count()


def device_name(device: int = 0) -> str:
    """The name of a GPU, and the versions of CUDA's runtime and driver.

    Raises:
        TransportError: there is no such GPU.
    """
    return _core.gpu_name(device)


class DeviceArray:
    """A contiguous array on a GPU, for programs without CuPy and Torch, which both read it without a copy.

    Has the CUDA array interface. `get` and `set` wait for what this thread has enqueued on
    cudaStreamPerThread, where the collectives of such arrays run. Kernels of the program's own that use it on
    other streams, replays of graphs and calls of VirtualRanks there must be over when it is freed: its memory
    then serves the next one.
    """

    def __init__(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
        """Zeros.

        Args:
            shape: elements in each dimension.
            dtype: NumPy's.

        Raises:
            TransportError: the GPU has not so much memory.
        """
        self.shape, self.dtype = shape, dtype
        self._memory = _core.gpu_allocate(max(self.nbytes, 1))

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.size * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the interface."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._memory.address, False),
            "strides": None,
            "version": 3,
            "stream": STREAM_OF_THREAD,
        }

    def get(self) -> "np.ndarray[Any, Any]":
        """A copy in the memory of the host."""
        host = np.empty(self.shape, self.dtype)
        _core.gpu_copy(host.ctypes.data, self._memory.address, self.nbytes, STREAM_OF_THREAD)
        return host

    def set(self, values: Any) -> None:
        """Copy `values`, of this shape or one that NumPy broadcasts to it, to the GPU."""
        host = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self.dtype), self.shape))
        _core.gpu_copy(self._memory.address, host.ctypes.data, self.nbytes, STREAM_OF_THREAD)

    def __repr__(self) -> str:
        return f"<ringtree.cuda.DeviceArray: {self.dtype.name}, shape {self.shape}>"


def empty(shape: int | Sequence[int], dtype: Any = "float32", device: str = "cuda") -> Any:
    """See Communicator.empty; the text of its InvalidArgument is only the reason.

    Args:
        shape: a number of elements, or their number in each dimension.
        dtype: NumPy's, by object or name, or a `torch.dtype`.
        device: "cuda", the current one of the calling thread.

    Returns:
        Zeros: a Torch tensor or a CuPy array, in memory of their own pools, which know the streams that use
        it; or a DeviceArray.

    Raises:
        InvalidArgument: no collective takes such elements, or there is no such device.
        TransportError: there is not so much memory, or no CUDA fabric. Torch and CuPy raise errors of theirs.
    """
    if device != "cuda":
        raise InvalidArgument(f'device must be "cpu" or "cuda", not {device!r}')
    lengths = (int(shape),) if isinstance(shape, SupportsIndex) else tuple(shape)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(dtype, torch.dtype):
        if (name := str(dtype).removeprefix("torch.")) not in _core.DTYPES:
            raise InvalidArgument(f"there are no collectives of {name}; there are {', '.join(_core.DTYPES)}")
        return torch.zeros(lengths, dtype=dtype, device="cuda")
    kind = numpy_dtype(dtype)
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return DeviceArray(lengths, kind)
    nbytes = math.prod(lengths) * kind.itemsize
    return cupy.zeros(_core.gpu_room(nbytes), np.uint8)[:nbytes].view(kind).reshape(lengths)
