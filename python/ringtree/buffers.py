"""From any array to an address: NumPy, Torch, CuPy, the buffer protocol, the array interfaces, DLPack.

Memory is never copied, so only C-contiguous memory is taken: a collective over anything else would need a
copy in and a copy out that nobody sees. The two common kinds, `numpy.ndarray` and `torch.Tensor`, go straight
to their reader.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ringtree._core import DTYPES, ITEMSIZES, address
from ringtree.errors import InvalidArgument

# Whatever as_buffer() finds memory in; Python has no narrower word for it that covers Torch without Torch.
ArrayLike: TypeAlias = Any

_DLPACK_CPU = 1

_CODES = {name: code for code, name in enumerate(DTYPES)}
# By type with its byte order. bfloat16 and float8 join when an array of ml_dtypes first comes along.
_NUMPY_CODES = {np.dtype(name): code for name, code in _CODES.items() if name == "bool" or hasattr(np, name)}
_TORCH_CODES: dict[Any, int] = {}


# A GPU, or -1 for the one that the memory is on, and a stream of it.
Place: TypeAlias = tuple[int, int]

# cudaStreamPerThread: for arrays of libraries that have no current stream.
STREAM_OF_THREAD = 2


@dataclass(slots=True)
class Buffer:
    """Contiguous memory: `count` elements at `pointer`, which live as long as `owner` does."""

    pointer: int
    count: int
    dtype: int  # the core's code
    owner: object
    place: "Place | None" = None  # of memory on a GPU

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to behind the last."""
        return self.count * ITEMSIZES[self.dtype]

    def __str__(self) -> str:
        return f"{DTYPES[self.dtype]} x {self.count}"


def as_buffer(x: ArrayLike, writable: bool) -> Buffer:
    """Where the memory of `x` lies.

    Args:
        x: NumPy array, Torch tensor, or an object with the buffer protocol, `__array_interface__`,
            `__cuda_array_interface__` (CuPy) or, on the CPU, DLPack; any shape, C-contiguous.
        writable: whether the collective writes there.

    Raises:
        InvalidArgument: wrong kind of object, element type, device or layout, or read-only memory for a
            result. The text is only the reason; who calls knows the rank and the call.
    """
    return (_READERS.get(type(x)) or _reader_for(type(x)))(x, writable)


def _from_numpy(x: np.ndarray[Any, Any], writable: bool) -> Buffer:
    code = _NUMPY_CODES.get(x.dtype)
    if code is None:
        code = _learn_numpy_dtype(x.dtype)
    if not x.flags.carray:  # C-contiguous, aligned and writable
        _check_layout(x, writable)
    return Buffer(address(x, writable), x.size, code, x)


def _learn_numpy_dtype(dtype: np.dtype[Any]) -> int:
    if not dtype.isnative:
        raise InvalidArgument(
            f"its elements are {dtype.name} in foreign byte order; pass x.astype(x.dtype.newbyteorder('='))"
        )
    code = _NUMPY_CODES[dtype] = _code_of(dtype.name)
    return code


def _code_of(dtype: str) -> int:
    if dtype not in _CODES:
        raise InvalidArgument(f"its elements are {dtype}; there are {', '.join(DTYPES)}")
    return _CODES[dtype]


def _check_layout(x: np.ndarray[Any, Any], writable: bool) -> None:
    if not x.flags.c_contiguous:
        raise InvalidArgument(
            f"it is not C-contiguous (shape {x.shape}, strides {x.strides} bytes); "
            "pass np.ascontiguousarray(x), and copy a result back"
        )
    if not x.flags.aligned:
        raise InvalidArgument(f"its {x.dtype.name} elements are not aligned in memory; pass x.copy()")
    if writable and not x.flags.writeable:
        raise InvalidArgument("its memory is read-only, and the result goes there; pass a copy")


def _from_torch(x: Any, writable: bool) -> Buffer:
    code = _TORCH_CODES.get(x.dtype)
    if code is None:
        code = _TORCH_CODES[x.dtype] = _code_of(str(x.dtype).removeprefix("torch."))
    place = None
    if not x.is_cpu:
        if not x.is_cuda:
            raise _on_device(str(x.device), "x.cpu()")
        place = (x.device.index, sys.modules["torch"].cuda.current_stream(x.device).cuda_stream)
    if writable and x.requires_grad and sys.modules["torch"].is_grad_enabled():
        raise InvalidArgument(
            "it requires grad, and autograd would not see that its values change; "
            "call this under torch.no_grad(), or pass x.detach()"
        )
    try:
        pointer, count, contiguous = x.data_ptr(), x.numel(), x.is_contiguous()
    except RuntimeError as error:  # a sparse tensor
        raise InvalidArgument(f"it has no dense memory ({error})") from None
    if not contiguous:
        raise InvalidArgument(
            f"it is not contiguous (shape {tuple(x.shape)}, strides {x.stride()} elements); "
            "pass x.contiguous(), and copy a result back"
        )
    if pointer == 0 and count > 0:
        raise InvalidArgument(f"a {type(x).__name__} of {count} elements has no memory of its own")
    return Buffer(pointer, count, code, x, place)


def _from_protocols(x: Any, writable: bool) -> Buffer:
    if hasattr(x, "__cuda_array_interface__"):
        return _from_cuda(x, writable)
    return _from_numpy(_array_over(x), writable)


def _from_cuda(x: Any, writable: bool) -> Buffer:
    """CuPy, Numba, rt.cuda.DeviceArray: version 3 of the interface."""
    interface = x.__cuda_array_interface__
    dtype = getattr(x, "dtype", None)
    if not isinstance(dtype, np.dtype):  # which the interface has no word for if it is one of ml_dtypes
        dtype = np.dtype(interface["typestr"])
    code = _NUMPY_CODES.get(dtype)
    if code is None:
        code = _learn_numpy_dtype(dtype)
    pointer, is_read_only = interface["data"]
    if writable and is_read_only:
        raise InvalidArgument("its memory is read-only, and the result goes there; pass a copy")
    shape = interface["shape"]
    strides = interface.get("strides")
    if strides is not None and not _are_contiguous(shape, strides, dtype.itemsize):
        raise InvalidArgument(
            f"it is not C-contiguous (shape {shape}, strides {strides} bytes); "
            "pass a contiguous copy, and copy a result back"
        )
    count = math.prod(shape)
    # Where no elements are, the address may be that of other memory.
    return Buffer(pointer if count else 0, count, code, x, (-1, _stream_for(x, interface)))


def _are_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True


def _stream_for(x: Any, interface: dict[str, Any]) -> int:
    """The stream on which the library of `x` works now on its GPU, else the one that the array names."""
    if type(x).__module__.partition(".")[0] == "cupy":
        current: int = sys.modules["cupy"].cuda.get_current_stream(x.device.id).ptr
        return current
    return interface.get("stream") or STREAM_OF_THREAD


def _array_over(x: Any) -> np.ndarray[Any, Any]:
    """A NumPy array over the memory of `x`, of which it keeps hold."""
    try:
        return np.asarray(memoryview(x))
    except TypeError:
        pass  # no buffer protocol
    except (ValueError, NotImplementedError) as error:
        raise InvalidArgument(f"NumPy cannot read its buffer: {error}") from None
    if hasattr(x, "__array_interface__"):
        return np.asarray(x)
    if not (hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")):
        raise _not_an_array(x)
    kind, number = x.__dlpack_device__()
    if int(kind) != _DLPACK_CPU:
        raise _on_device(f"DLPack device ({int(kind)}, {number})", "a copy in CPU memory")
    try:
        return np.from_dlpack(x)
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgument(f"NumPy cannot read it through DLPack: {error}") from None


def _refuse(x: Any, writable: bool) -> Buffer:
    raise _not_an_array(x)


def _not_an_array(x: object) -> InvalidArgument:
    return InvalidArgument(
        f"it is a {type(x).__name__}, not an array; pass NumPy, Torch, or an object with the buffer "
        "protocol or DLPack"
    )


def _on_device(device: str, instead: str) -> InvalidArgument:
    return InvalidArgument(
        f"its memory is on {device}, and ringtree reaches that of CPUs, and of GPUs by CUDA: pass {instead}"
    )


def _reader_for(kind: type) -> "_Reader":
    """For a type that is met for the first time, or is neither NumPy's nor Torch's."""
    if issubclass(kind, np.ndarray):
        return _READERS.setdefault(kind, _from_numpy)
    if any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in kind.__mro__):
        return _READERS.setdefault(kind, _from_torch)
    return _refuse if issubclass(kind, np.generic) else _from_protocols  # a NumPy scalar has a buffer too


_Reader = Callable[[Any, bool], Buffer]
_READERS: dict[type, _Reader] = {np.ndarray: _from_numpy}
