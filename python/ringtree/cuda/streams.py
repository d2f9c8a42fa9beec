"""Streams for ranks that are threads of one process."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def own_stream() -> Iterator[None]:
    """Make Torch and CuPy, where they have been imported, work on a stream of this thread's own.

    The kernels of ranks wait for one another, so those of two ranks must not wait in one stream. Arrays of
    other libraries use cudaStreamPerThread, which is one already.
    """
    with ExitStack() as stack:
        torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
        if torch is not None and torch.cuda.is_available():
            stack.enter_context(torch.cuda.stream(torch.cuda.Stream()))
        if cupy is not None:
            stack.enter_context(cupy.cuda.Stream(non_blocking=True))
        yield
