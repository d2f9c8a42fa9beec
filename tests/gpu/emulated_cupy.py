"""A stand-in for the part of CuPy that ringtree meets, over the devices of the emulated CUDA library.

Never installed as `cupy`: tests put it there (cupy_here.py). What each piece follows, in CuPy 14's reference
(https://docs.cupy.dev/en/stable/reference/) and, where that is silent, its sources:

- ndarray: `cupy.ndarray`; `__cuda_array_interface__` as in the user guide's "Interoperability" and version 3 of
  the interface, which cupy/_core/core.pyx writes: `stream` is the pointer of the current stream, and 1, the
  legacy stream's other name, where that is 0, which the interface forbids; `strides` is None if the array is
  C-contiguous; the pointer is 0 if nothing is in it; `typestr` is NumPy's, so bfloat16 is "<V2" there.
- Element types: NumPy's, without big-endian ones, and ml_dtypes' bfloat16; ValueError for others
  (cupy/_core/_dtype.pyx). CuPy before 14 knows no bfloat16.
- Memory: a pool, as in the user guide's "Memory Management": what is freed serves the next array of its size
  on the same stream at once, and is not cleared.
- cuda.Stream, Stream.null (pointer 0), Stream.ptds (2), get_current_stream: `cupy.cuda.Stream`. The current one
  is the thread's, and each device's own; a stream is entered on its device alone (cupy/cuda/stream.pyx), and
  destroyed with its object, whatever it still holds.
- cuda.Device: `cupy.cuda.Device`; by default the current one.

Copies are enqueued on the current stream; those from and to the host wait for it, too. There are no kernels.
"""

import ctypes
import math
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import ml_dtypes
import numpy as np

_LEGACY, _PER_THREAD = 1, 2
_NON_BLOCKING = 1
_DEFAULT = 4  # cudaMemcpyDefault: from where to where, the pointers say
_UNIT = 512  # the pool's
_TYPES = {np.dtype(kind) for kind in "?bhilqBHILQefdFD"} | {np.dtype(ml_dtypes.bfloat16)}


class _Runtime:
    """CUDA's functions of the library that RINGTREE_CUDA_LIBRARY names; raises where they fail."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["RINGTREE_CUDA_LIBRARY"])
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *args: Any) -> None:
        error = getattr(self._library, name)(*args)
        if error != 0:
            raise RuntimeError(f"{name}: {self._library.cudaGetErrorString(error).decode()}")

    def integer(self, name: str) -> int:
        found = ctypes.c_int()
        self.call(name, ctypes.byref(found))
        return found.value

    def pointer(self, name: str, *args: Any) -> int:
        found = ctypes.c_void_p()
        self.call(name, ctypes.byref(found), *args)
        return found.value or 0

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        arguments = (ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(nbytes), _DEFAULT)
        self.call("cudaMemcpyAsync", *arguments, ctypes.c_void_p(stream))


_runtime = _Runtime()


class Device:
    def __init__(self, device: "int | Device | None" = None) -> None:
        self.id = _runtime.integer("cudaGetDevice") if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __enter__(self) -> Self:
        self._before.append(_runtime.integer("cudaGetDevice"))
        self.use()
        return self

    def __exit__(self, *_: object) -> None:
        _runtime.call("cudaSetDevice", self._before.pop())

    def use(self) -> None:
        _runtime.call("cudaSetDevice", self.id)

    def synchronize(self) -> None:
        with self:
            _runtime.call("cudaDeviceSynchronize")


class _Current(threading.local):
    """The streams that a thread has entered, by device: the last one is current."""

    def __init__(self) -> None:
        self.streams: dict[int, list[Stream]] = defaultdict(lambda: [Stream.null])
        self.entered: list[int] = []


class Stream:
    null: "Stream"
    ptds: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.device_id = -1
        if null or ptds:
            self.ptr = 0 if null else _PER_THREAD
            return
        self.device_id = Device().id
        self.ptr = _runtime.pointer("cudaStreamCreateWithFlags", _NON_BLOCKING if non_blocking else 0)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing() and self.ptr not in (0, _LEGACY, _PER_THREAD):
            _runtime.call("cudaStreamDestroy", ctypes.c_void_p(self.ptr))

    def __enter__(self) -> Self:
        here = Device().id
        if self.device_id not in (-1, here):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with the current "
                f"device ({here})"
            )
        _current.streams[here].append(self)
        _current.entered.append(here)
        return self

    def __exit__(self, *_: object) -> None:
        _current.streams[_current.entered.pop()].pop()

    def synchronize(self) -> None:
        _runtime.call("cudaStreamSynchronize", ctypes.c_void_p(self.ptr))


def get_current_stream(device_id: int = -1) -> Stream:
    return _current.streams[Device().id if device_id == -1 else device_id][-1]


class MemoryPool:
    """What is freed is kept for the stream on which it was allocated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards:
        self._free: dict[tuple[int, int, int], list[int]] = defaultdict(list)

    def take(self, nbytes: int) -> "_Memory":
        rounded = max(math.ceil(nbytes / _UNIT), 1) * _UNIT
        key = (Device().id, get_current_stream().ptr, rounded)
        with self._lock:
            pointer = self._free[key].pop() if self._free[key] else 0
        return _Memory(self, key, pointer or _runtime.pointer("cudaMalloc", ctypes.c_size_t(rounded)))

    def keep(self, key: tuple[int, int, int], pointer: int) -> None:
        with self._lock:
            self._free[key].append(pointer)

    def free_all_blocks(self) -> None:
        with self._lock:
            blocks = [pointer for pointers in self._free.values() for pointer in pointers]
            self._free.clear()
        for pointer in blocks:
            _runtime.call("cudaFree", ctypes.c_void_p(pointer))


class _Memory:
    def __init__(self, pool: MemoryPool, key: tuple[int, int, int], pointer: int) -> None:
        self._pool, self._key, self.ptr = pool, key, pointer

    @property
    def device(self) -> Device:
        return Device(self._key[0])

    def __del__(self) -> None:
        self._pool.keep(self._key, self.ptr)


class ndarray:  # noqa: N801 - CuPy's name
    """`_shown` has the address, shape and strides in NumPy's words; what lies there NumPy never touches."""

    def __init__(self, memory: _Memory, shown: np.ndarray[Any, Any]) -> None:
        self._memory, self._shown = memory, shown
        self.shape, self.strides, self.dtype = shown.shape, shown.strides, shown.dtype
        self.size, self.nbytes = shown.size, shown.nbytes
        self.flags = SimpleNamespace(c_contiguous=shown.flags.c_contiguous)
        self.data = SimpleNamespace(ptr=shown.__array_interface__["data"][0], mem=memory)

    @property
    def device(self) -> Device:
        return self._memory.device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": get_current_stream().ptr or _LEGACY,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr if self.size else 0, False),
        }

    @property
    def T(self) -> "ndarray":  # noqa: N802 - CuPy's name
        return ndarray(self._memory, self._shown.T)

    def __getitem__(self, part: Any) -> "ndarray":
        return ndarray(self._memory, self._shown[part])

    def __setitem__(self, part: Any, values: "ndarray") -> None:
        target = self[part]
        if not isinstance(values, ndarray) or (values.shape, values.dtype) != (target.shape, target.dtype):
            raise NotImplementedError("the stand-in copies from arrays of the same shape and type alone")
        target._copy(target.data.ptr, values._contiguous().data.ptr)

    def view(self, dtype: Any) -> "ndarray":
        return ndarray(self._memory, self._shown.view(_supported(dtype)))

    def reshape(self, *shape: Any) -> "ndarray":
        return ndarray(self._memory, self._shown.reshape(*shape))

    def copy(self) -> "ndarray":
        other = empty(self.shape, self.dtype)
        other[...] = self
        return other

    def set(self, values: np.ndarray[Any, Any]) -> None:
        if (values.shape, values.dtype) != (self.shape, self.dtype):
            raise ValueError(f"{values.dtype} of {values.shape} for {self.dtype} of {self.shape}")
        self._copy(self.data.ptr, np.ascontiguousarray(values).ctypes.data)
        get_current_stream().synchronize()

    def get(self) -> np.ndarray[Any, Any]:
        host = np.empty(self.shape, self.dtype)
        self._copy(host.ctypes.data, self.data.ptr)
        get_current_stream().synchronize()
        return host

    def _copy(self, to: int, source: int) -> None:
        self._contiguous()
        if self.nbytes:
            _runtime.copy(to, source, self.nbytes, get_current_stream().ptr)

    def _contiguous(self) -> "ndarray":
        if not self.flags.c_contiguous:
            raise NotImplementedError("the stand-in copies what is contiguous alone")
        return self


def _supported(dtype: Any) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind not in _TYPES or not kind.isnative:
        raise ValueError(f"Unsupported dtype {kind}")
    return kind


def empty(shape: Any, dtype: Any = float) -> ndarray:
    kind = _supported(dtype)
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = math.prod(lengths) * kind.itemsize
    memory = _pool.take(nbytes)
    there = (ctypes.c_char * max(nbytes, 1)).from_address(memory.ptr)
    return ndarray(memory, np.ndarray(lengths, kind, there))


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    made = empty(shape, dtype)
    size, stream = ctypes.c_size_t(made.nbytes), ctypes.c_void_p(get_current_stream().ptr)
    _runtime.call("cudaMemsetAsync", ctypes.c_void_p(made.data.ptr), 0, size, stream)
    return made


def asarray(values: Any) -> ndarray:
    host = np.asarray(values)
    made = empty(host.shape, host.dtype)
    made.set(host)
    return made


ndarray.__module__ = "cupy"
Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)
_current, _pool = _Current(), MemoryPool()


def module() -> ModuleType:
    """What stands in `sys.modules["cupy"]`."""
    cupy: Any = ModuleType("cupy", "A stand-in.")
    cupy.__version__ = "14.0.0"
    cupy.ndarray, cupy.empty, cupy.zeros, cupy.asarray = ndarray, empty, zeros, asarray
    cupy.get_default_memory_pool = lambda: _pool
    cupy.cuda = SimpleNamespace(Device=Device, Stream=Stream, get_current_stream=get_current_stream)
    return cupy
