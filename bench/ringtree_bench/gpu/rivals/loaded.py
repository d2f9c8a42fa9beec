"""Which NCCL this process calls. PyTorch names the one it was compiled with, whatever LD_PRELOAD says."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress

_SONAME = "libnccl.so.2"


def loaded_nccl() -> tuple[int, ...] | None:
    """The version that the loaded library gives of itself; None where none is loaded."""
    for library in _loaded():
        number = ctypes.c_int()
        try:
            failed = library.ncclGetVersion(ctypes.byref(number))
        except AttributeError:
            continue
        if not failed:
            return version_of(number.value)
    return None


def version_of(number: int) -> tuple[int, int, int]:
    """(2, 28, 9) of 22809."""
    return number // 10000, number // 100 % 100, number % 100


def _loaded() -> Iterator[ctypes.CDLL]:
    """Under its usual name, which what is preloaded bears, too; else among what all libraries see."""
    with suppress(OSError):  # nobody has loaded it
        yield ctypes.CDLL(_SONAME, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    yield ctypes.CDLL(None)
