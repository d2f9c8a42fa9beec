"""A GPU for machines without one: the CUDA fabric over the emulated runtime (tests/emulator)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "build" / "release" / "tests" / "cpp" / "libringtree_cuda_emulated.so"

needs_emulator = pytest.mark.skipif(
    not LIBRARY.exists(), reason="cmake --build --preset release --target ringtree_cuda_emulated"
)


def environment(**more: str) -> dict[str, str]:
    """Of a process that finds the emulated GPU, four lanes wide."""
    return {**os.environ, "RINGTREE_CUDA_LIBRARY": str(LIBRARY), "RINGTREE_EMULATED_LANES": "4", **more}


def run(*command: str, timeout: float = 240, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments in such a process."""
    return subprocess.run(
        [sys.executable, *command],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
