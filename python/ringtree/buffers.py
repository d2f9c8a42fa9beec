"""From any array to an address: NumPy, Torch (CPU), DLPack, `__array_interface__`, the buffer protocol.

Only C-contiguous memory is taken: a collective over anything else would need a hidden copy, in and out.
"""

from typing import Any, NamedTuple

import numpy as np

from ringtree._core import DTYPES, ITEMSIZES, address
from ringtree.errors import InvalidArgument

_CODES = {name: code for code, name in enumerate(DTYPES)}
# NumPy numbers its own types; those of ml_dtypes (bfloat16, float8) get a number when they are loaded.
_NUMPY_CODES = {np.dtype(name).num: code for name, code in _CODES.items() if hasattr(np, name) or name == "bool"}
# `long` and `long long` are two types of NumPy's, both int64 here.
_NUMPY_CODES[np.dtype(np.longlong).num] = _CODES["int64"]
_torch_codes: dict[Any, int] = {}


class Buffer(NamedTuple):
    """Contiguous memory: `count` elements of the type with the code `dtype` at `pointer`."""

    pointer: int
    count: int
    dtype: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEMSIZES[self.dtype]

    @property
    def end(self) -> int:
        """The address behind the last element."""
        return self.pointer + self.count * self.itemsize


def as_buffer(x: Any, *, writable: bool) -> Buffer:
    """The memory of `x`, which is not copied.

    Args:
        x: a NumPy array, a Torch CPU tensor, or anything with DLPack or the buffer protocol.
        writable: whether the collective writes to it.

    Raises:
        InvalidArgument: wrong kind of object, type, device or layout, or read-only memory for an output.
    """
    if isinstance(x, np.ndarray):
        return _from_numpy(x, writable)
    if type(x).__module__.partition(".")[0] == "torch":
        return _from_torch(x)
    return _from_protocols(x, writable)


def _from_numpy(x: "np.ndarray[Any, Any]", writable: bool) -> Buffer:
    dtype = x.dtype
    code = _NUMPY_CODES.get(dtype.num)
    if code is None or not dtype.isnative:
        code = _late_numpy_code(dtype)
    try:
        return Buffer(address(x, writable), x.size, code)
    except (BufferError, ValueError):  # NumPy raises the latter
        if not x.flags.c_contiguous:
            raise InvalidArgument(
                f"the array is not C-contiguous (shape {x.shape}, strides {x.strides}): "
                "pass np.ascontiguousarray(x) and copy the result back"
            ) from None
        raise InvalidArgument("the array is read-only, but the result goes there: pass a writable copy") from None


def _late_numpy_code(dtype: "np.dtype[Any]") -> int:
    code = _CODES.get(dtype.name)
    if code is None or not dtype.isnative:
        order = "" if dtype.isnative else " in foreign byte order"
        raise InvalidArgument(f"elements of type {dtype.name}{order} are not supported; there are {', '.join(DTYPES)}")
    _NUMPY_CODES[dtype.num] = code
    return code


def _from_torch(x: Any) -> Buffer:
    code = _torch_codes.get(getattr(x, "dtype", None))
    if code is None:
        code = _late_torch_code(x)
    if not x.is_cpu:
        raise InvalidArgument(
            f"the tensor is on {x.device}, but this build of ringtree runs collectives on the CPU: pass x.cpu()"
        )
    if not x.is_contiguous():
        raise InvalidArgument(
            f"the tensor is not contiguous (shape {tuple(x.shape)}, strides {x.stride()}): "
            "pass x.contiguous() and copy the result back"
        )
    return Buffer(x.data_ptr(), x.numel(), code)


def _late_torch_code(x: Any) -> int:
    dtype = getattr(x, "dtype", None)
    if dtype is None or not hasattr(x, "data_ptr"):
        raise InvalidArgument(f"{type(x).__name__} is not an array; pass a torch.Tensor")
    code = _CODES.get(str(dtype).removeprefix("torch."))
    if code is None:
        raise InvalidArgument(f"elements of type {dtype} are not supported; there are {', '.join(DTYPES)}")
    _torch_codes[dtype] = code
    return code


def _from_protocols(x: Any, writable: bool) -> Buffer:
    """Through a NumPy array that shares the memory."""
    if isinstance(x, (bytes, bytearray, memoryview)) or hasattr(x, "__buffer__") or _has_buffer(x):
        view = memoryview(x)
        if not view.c_contiguous:
            raise InvalidArgument("the buffer is not C-contiguous: pass a contiguous copy")
        return _from_numpy(np.asarray(view), writable)
    if hasattr(x, "__dlpack__"):
        kind, _ = x.__dlpack_device__()
        if int(kind) != 1:  # kDLCPU
            raise InvalidArgument(
                f"the {type(x).__name__} is not in CPU memory, but this build of ringtree runs collectives "
                "on the CPU: copy it to the host"
            )
        return _from_numpy(np.from_dlpack(x), writable)
    if hasattr(x, "__array_interface__"):
        return _from_numpy(np.asarray(x), writable)
    raise InvalidArgument(
        f"a {type(x).__name__} is not an array; pass a NumPy array, a Torch tensor, or an object with DLPack "
        "or the buffer protocol"
    )


def _has_buffer(x: Any) -> bool:
    try:
        memoryview(x)
    except TypeError:
        return False
    return True
