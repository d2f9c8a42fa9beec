"""CuPy as these tests have it: itself where the devices are real, a stand-in over those that are emulated."""

import importlib.util
import sys
from typing import Any

import pytest
from gpu.devices import emulated


def which() -> str:
    """In words, without importing it."""
    if emulated() is not None:
        return "a stand-in (tests/gpu/emulated_cupy.py)"
    return "its own" if importlib.util.find_spec("cupy") is not None else "none: its tests are skipped"


def skip_without() -> None:
    """Skips a test where devices are real and CuPy is not there."""
    if emulated() is None and importlib.util.find_spec("cupy") is None:
        pytest.skip("the GPU is real, and CuPy is not installed")


def import_cupy() -> Any:
    """In `sys.modules` from now on, as a program's import would have it."""
    if emulated() is None:
        import cupy

        return cupy
    from gpu import emulated_cupy

    return sys.modules.setdefault("cupy", emulated_cupy.module())
