"""What Python alone cannot ask of CUDA: another current device, and what a process holds on it."""

import ctypes
import os
from typing import Any

import pytest
import ringtree as rt
from ringtree import _core


def emulated() -> Any:
    """The library that emulates devices; None where they are real."""
    path = os.environ.get("RINGTREE_CUDA_LIBRARY")
    library = ctypes.CDLL(path) if path else None
    return library if hasattr(library, "ringtree_emulated_lives") else None


def driver() -> Any:
    rt.cuda.device_count()  # initialises it
    return ctypes.CDLL("libcuda.so.1")


def set_device(device: int) -> None:
    """Of the calling thread."""
    if library := emulated():
        assert library.ringtree_emulated_set_device(device) == 0
        return
    context = ctypes.c_void_p()
    assert driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert driver().cuCtxSetCurrent(context) == 0


def has_begun(device: int) -> bool:
    """Whether CUDA has started on the device in this process: it takes half a GiB there."""
    if library := emulated():
        return bool(library.ringtree_emulated_has_begun(device))
    flags, is_active = ctypes.c_uint(), ctypes.c_int()
    assert driver().cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(is_active)) == 0
    return bool(is_active.value)


# What the emulated runtime counts, in its order.
COUNTED = (
    *("device memory", "host memory", "registrations", "opened handles", "streams", "events"),
    *("memory handles", "reservations", "chunks"),
)


def held() -> dict[str, int]:
    """What this process holds on the device, by name; of a real one, MiB of all processes."""
    if library := emulated():
        lives = (ctypes.c_uint64 * len(COUNTED))()
        library.ringtree_emulated_lives(lives)
        return dict(zip(COUNTED, lives, strict=True))
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert driver().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return {"MiB": (total.value - free.value) >> 20}


def give_back() -> None:
    """Memory of devices that is kept for later and not in use any more: it goes when one of them is full."""
    with pytest.raises(rt.TransportError, match="out of memory"):
        _core.gpu_allocate(1 << 60)
