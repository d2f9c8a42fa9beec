"""What holds up a stream until a test lets it go on: so that what follows on it is seen to wait."""

import ctypes
import threading
from typing import Any, Self

from gpu.devices import driver, emulated

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_functions: list[Any] = []  # never freed: who could say that one has returned?


class Gate:
    """A function of the host on a stream, of which `stream` is the pointer; opens when its block ends."""

    def __init__(self, stream: int) -> None:
        self._opened = threading.Event()
        function = _HOST_FUNCTION(self._wait)
        _functions.append(function)
        library = emulated()
        launch = library.cudaLaunchHostFunc if library else driver().cuLaunchHostFunc
        assert launch(ctypes.c_void_p(stream), function, None) == 0

    def _wait(self, _: int | None) -> None:
        self._opened.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.set()
