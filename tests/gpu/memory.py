"""Arrays on a GPU as tests need them: poisoned, cut anywhere, on any stream, without CuPy or Torch."""

from typing import Any

import numpy as np
import ringtree as rt
from contract.cases import MISALIGNED, Case
from contract.reference import NUMPY_TYPES, Array
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD


class View:
    """Elements of a DeviceArray from `begin` on, as another library would show them."""

    def __init__(
        self, whole: rt.cuda.DeviceArray, begin: int, count: int, stream: int = STREAM_OF_THREAD
    ) -> None:
        self.whole, self.begin, self.shape, self.dtype = whole, begin, (count,), whole.dtype
        self.stream = stream

    @property
    def size(self) -> int:
        return self.shape[0]

    @property
    def address(self) -> int:
        pointer: int = self.whole.__cuda_array_interface__["data"][0]
        return pointer + self.begin * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            **self.whole.__cuda_array_interface__,
            "shape": self.shape,
            "data": (self.address, False),
            "stream": self.stream,
        }

    def __getitem__(self, part: slice) -> "View":
        begin, end, _ = part.indices(self.size)
        return View(self.whole, self.begin + begin, max(end - begin, 0), self.stream)

    def __setitem__(self, part: slice, values: Any) -> None:
        target = self[part]
        host = np.ascontiguousarray(np.broadcast_to(np.asarray(values, self.dtype), target.shape))
        _core.gpu_copy(target.address, host.ctypes.data, host.nbytes, self.stream)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        host = np.empty(self.shape, self.dtype)
        _core.gpu_copy(host.ctypes.data, self.address, host.nbytes, self.stream)
        return host if dtype is None else host.astype(dtype)

    def tobytes(self) -> bytes:
        return np.asarray(self).tobytes()


def empty(count: int, dtype: Any = "float32", skipped: int = 0) -> View:
    """`count` elements that hold 0xA5 (a bool: 1), `skipped` elements behind what an allocation begins with."""
    whole = rt.cuda.empty(count + skipped, dtype)
    array = View(whole, 0, count + skipped)
    poison(array)
    return array[skipped:]


def poison(array: View) -> None:
    """0xA5 in all its bytes (1 in a bool's)."""
    fill = np.full(array.size * array.dtype.itemsize, 1 if array.dtype == bool else 0xA5, np.uint8)
    array[:] = fill.view(array.dtype)


def on_gpu(values: Any, dtype: Any = None) -> View:
    """A copy of an array of one dimension."""
    host = np.asarray(values, dtype)
    array = empty(host.size, host.dtype)
    array[:] = host
    return array


def ones(count: int = 8, dtype: str = "float32") -> View:
    return on_gpu(np.ones(count, NUMPY_TYPES[dtype]))


def for_case(comm: rt.Communicator, case: Case, count: int) -> View:
    """What `contract.cases.start` takes its arrays from."""
    return empty(count, NUMPY_TYPES[case.dtype], skipped=1 if case.form == MISALIGNED else 0)


def same(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same bits, wherever they are."""
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()
