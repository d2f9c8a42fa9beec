"""PyTorch's own tests of its backends, which ship inside the wheel, run with ringtree: `make test-torch`.

    RINGTREE_SUITE_AS=gloo RINGTREE_SUITE_WORLD=3 pytest tests/torch_backend/pytorch_suite.py

Many of them run for the name gloo alone, so ringtree can stand in under that name; and all_to_all's for mpi
alone, of which only the decorators ask: as mpi, ringtree runs them under its own name. The ranks are forked
from this process, which has imported torch and run nothing.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

_AS = os.environ.get("RINGTREE_SUITE_AS", "ringtree")
_FOLDER = tempfile.TemporaryDirectory(prefix="pytorch-suite-")
(Path(_FOLDER.name) / "barrier").touch()
(Path(_FOLDER.name) / "test_dir").mkdir()
# The suite reads these when it is imported, and when it runs.
os.environ.update(
    BACKEND=_AS,
    WORLD_SIZE=os.environ.get("RINGTREE_SUITE_WORLD", "2"),
    TEMP_DIR=_FOLDER.name,
)

import pytest
import torch
import torch.distributed.distributed_c10d as c10d
from ringtree.torch_backend import open_backend, register
from torch.testing._internal.distributed import distributed_test
from torch.testing._internal.distributed.distributed_test import DistributedTest, TestDistBackend

register()
pytestmark = pytest.mark.pytorch_suite


class _StandIn(type):
    """Called and asked like c10d's class ProcessGroupGloo."""

    def __call__(cls, store: Any, rank: int, size: int, timeout: Any) -> Any:
        return open_backend(store, rank, size, timeout, "gloo")

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


if _AS == "gloo":
    c10d.ProcessGroupGloo = _StandIn("ProcessGroupGloo", (), {})
if _AS == "mpi":
    distributed_test.BACKEND = "ringtree"


class TestRingtree(TestDistBackend, DistributedTest._DistTestBase):
    def setUp(self) -> None:
        super().setUp()
        torch.set_num_threads(1)
        self._start_processes(torch.multiprocessing.get_context("fork").Process)

    def test_ddp_logging_data_cpu(self) -> None:
        self.skipTest(
            "asks Gloo for its number of threads, and any other backend to be called 'custom' in DDP's log"
        )


del TestDistBackend  # not to be collected itself
