"""Streams for ranks that are threads of one process."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ringtree import _core

# CUDA reads it when it starts.
_QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"
_MOST_QUEUES, _USUAL_QUEUES = 32, 8


def ask_for_queues(ranks: int) -> None:
    """Ask CUDA, if it has not started, for as many queues of the hardware as it gives.

    Streams share them when there are not enough, and wait there for one another: so may the kernels of ranks,
    of which the first waits for the last.

    Args:
        ranks: that are threads of this process.
    """
    said = os.environ.get(_QUEUES, "")
    queues = int(said) if said.isdecimal() else _USUAL_QUEUES
    if _QUEUES not in os.environ and not _has_started():
        os.environ[_QUEUES] = str(_MOST_QUEUES)
        queues = _MOST_QUEUES
    if ranks > 1 and queues < ranks + 1:
        warnings.warn(
            f"{ranks} ranks that are threads, and ringtree itself, share {queues} queues of the GPU, where "
            "they may wait for one another until the timeout: set "
            f"{_QUEUES}={_MOST_QUEUES} before CUDA starts",
            RuntimeWarning,
            stacklevel=3,
        )


def _has_started() -> bool:
    """Whether CUDA may have started in this process, by whatever library."""
    with open("/proc/self/maps") as maps:
        return any("/libcuda.so" in line for line in maps)


def current_gpu() -> int:
    """The calling thread's, as Torch or CuPy see it where they have been imported."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.current_device())
    return int(cupy.cuda.Device().id) if cupy is not None else _core.gpu_current()


@contextmanager
def own_stream(device: int | None = None) -> Iterator[None]:
    """Make Torch and CuPy, where they have been imported, work on a stream of this thread's own.

    The kernels of ranks wait for one another, so those of two ranks must not wait in one stream. Arrays of
    other libraries use cudaStreamPerThread, which is one already, unless somebody works on the legacy stream:
    CUDA puts that one in order with all threads'.

    Args:
        device: the GPU to work on; None: the thread's current one.
    """
    with ExitStack() as stack:
        torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
        if device is not None:
            _core.gpu_use(device)
        if torch is not None and torch.cuda.is_available():
            stack.enter_context(torch.cuda.device(device))
            stack.enter_context(torch.cuda.stream(torch.cuda.Stream()))
        if cupy is not None:
            stack.enter_context(cupy.cuda.Device(device))
            stack.enter_context(cupy.cuda.Stream(non_blocking=True))
        yield
