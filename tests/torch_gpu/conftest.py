"""The library of tests/gpu, and over it, where it is the emulated one, a stand-in for PyTorch's CUDA.

These tests have a run of their own: their ranks are forked from a process that has not touched a device.
"""

import ctypes
import importlib.util
import os
import runpy
from pathlib import Path

import pytest
from gpu.conftest import BUILD, EMULATED, VARIABLE, pytest_report_header
from gpu.conftest import pytest_configure as choose_library

__all__ = ["pytest_report_header"]

EMULATED_TORCH = BUILD / "libringtree_torch_emulated.so"


def is_for_cpus() -> bool:
    """Whether PyTorch is; without importing it."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return runpy.run_path(str(Path(spec.origin).with_name("version.py")))["cuda"] is None


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asks for a GPU without starting CUDA
    choose_library(config)
    if os.environ.get(VARIABLE) == str(EMULATED) and is_for_cpus():
        if not EMULATED_TORCH.exists():
            raise pytest.UsageError(f"tests/torch_gpu: no {EMULATED_TORCH}: make test-gpu builds it")
        ctypes.CDLL(str(EMULATED_TORCH))  # before torch, which looks for CUDA once
