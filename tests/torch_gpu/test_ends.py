"""A process may end while its groups still live: those that something of C++ holds are never destroyed."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from torch_gpu.conftest import EMULATED_TORCH
from torch_gpu.tensors import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

# The exit handler that sleeps is older than CUDA's, so it runs after those have taken CUDA's memory away:
# long enough for whoever looks there every now and then.
FORGOTTEN = textwrap.dedent(
    """
    import ctypes, sys
    if sys.argv[1]:
        ctypes.CDLL(sys.argv[1])  # before torch, as in conftest.py
    c = ctypes.CDLL(None)
    assert c.__cxa_atexit(c.usleep, ctypes.c_void_p(200_000), None) == 0

    import torch
    import torch.distributed as dist
    from torch_gpu.tensors import to_gpu

    dist.init_process_group("cpu:ringtree,cuda:ringtree", rank=0, world_size=1, store=dist.HashStore())
    x = to_gpu(torch.ones(1000))
    dist.all_reduce(x)
    assert x.sum() == 1000
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    """
)


def test_a_process_may_end_without_destroying_its_groups() -> None:
    emulated = str(EMULATED_TORCH) if "RINGTREE_CUDA_LIBRARY" in os.environ else ""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORGOTTEN, emulated],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")
