"""From any array to an address: NumPy, Torch (CPU), the buffer protocol, `__array_interface__`, DLPack.

Memory is never copied, so only C-contiguous memory is taken: a collective over anything else would need a
copy in and a copy out that nobody sees. The two common kinds, `numpy.ndarray` and `torch.Tensor`, go straight
to their reader.
"""

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


@dataclass(slots=True)
class Buffer:
    """Contiguous memory: `count` elements at `pointer`, which live as long as `owner` does."""

    pointer: int
    count: int
    dtype: int  # the core's code
    owner: object

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to behind the last."""
        return self.count * ITEMSIZES[self.dtype]

    def __str__(self) -> str:
        return f"{DTYPES[self.dtype]} x {self.count}"


def as_buffer(x: ArrayLike, writable: bool) -> Buffer:
    """Where the memory of `x` lies.

    Args:
        x: NumPy array, Torch CPU tensor, or an object with the buffer protocol, `__array_interface__` or
            DLPack; any shape, C-contiguous.
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
    if not x.is_cpu:
        raise _on_device(str(x.device), "x.cpu()")
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
    return Buffer(pointer, count, code, x)


def _from_protocols(x: Any, writable: bool) -> Buffer:
    return _from_numpy(_array_over(x), writable)


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
    if hasattr(x, "__cuda_array_interface__"):
        raise _on_device("a CUDA device", "a copy in CPU memory")
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
        f"its memory is on {device}; this build of ringtree has no CUDA fabric and reaches CPU memory only: "
        f"pass {instead}"
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
