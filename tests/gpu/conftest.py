"""On which CUDA library these tests run: ringtree's own where there is a GPU, else the emulated one.

The decision is made once, printed at the head of the run, and passed on to all processes that tests start.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu.cupy_here import which
from hypothesis import settings

VARIABLE = "RINGTREE_CUDA_LIBRARY"
BUILD = Path(__file__).parents[2] / "build/release/tests/cpp"
EMULATED = BUILD / "libringtree_cuda_emulated.so"

settings.register_profile("quick", max_examples=6, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=200, deadline=None, print_blob=True)

# In a process of its own: the one that forks or decides must not have touched a device.
LOOK = "import ringtree as rt; print(rt.cuda.device_count(), rt.cuda.device_name())"


def device_seen() -> str:
    """The number of GPUs and the name of the first; nothing if there is none, or no library."""
    look = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    return look.stdout.strip() if look.returncode == 0 else ""


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("hypothesis_profile", None) is None:
        settings.load_profile("quick")
    # Streams that share a queue of the hardware wait for one another. CUDA reads it when it first starts, which
    # need not be in a run_local that asks for it.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    if VARIABLE not in os.environ and not device_seen():
        os.environ[VARIABLE] = str(EMULATED)
        os.environ.setdefault("RINGTREE_EMULATED_LANES", "4")  # a lane is a thread
    if not device_seen():
        raise pytest.UsageError(
            f"tests/gpu: no GPU, and no library that emulates one ({os.environ[VARIABLE]}): make test-gpu builds it"
        )


def pytest_report_header(config: pytest.Config) -> str:
    library = os.environ.get(VARIABLE, "ringtree's own")
    return f"CUDA library: {library}; devices: {device_seen()}; CuPy: {which()}"
