"""The JSON record of a run on GPUs, written again whenever a case more has been measured."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.gpu.run import Run
from ringtree_bench.gpu.table import Row
from ringtree_bench.growing import GrowingRecord
from ringtree_bench.record import Document, facts, measured, timed

_SETTINGS = ("RINGTREE_", "CUDA_", "NCCL_", "TORCH_SYMM_MEM_")
_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-nccl-cu13", "nvidia-nccl-cu12")


class Record:
    """Everything about a run; times are in seconds, sizes in bytes, rates in bytes per second."""

    def __init__(self, run: Run, path: Path, commit: str | None = None) -> None:
        """Nothing is written yet. `commit`: what git would say, where there is no checkout."""
        self._run, self._file = run, GrowingRecord(path)
        seat = run.seat
        known = {"commit": commit} if commit else {}
        self._facts = {
            **facts(run, _SETTINGS, _PACKAGES),
            **known,
            "kind": "gpu",
            "device": seat.device,
            "driver": driver(),
            "world": seat.size,
            "ranks": seat.kind,
            "ranks_sharing_one_gpu": seat.sharing,
            "staged": seat.staged,
            "protocol": seat.protocol,
            "blocks": run.blocks,
            "skipped": run.skipped,
        }

    def write(self, rows: Iterable[Row], is_complete: bool = False) -> None:
        """Put it on disk with the rows so far. Shares are those of the stricter limits that are known."""
        run, names = self._run, [peer.name for peer in self._run.peers]
        limits = run.limits.stricter(run.limits_after)
        self._file.write(
            {
                **self._facts,
                "complete": is_complete,
                "limits": _limits(limits),
                "limits_before": _limits(run.limits),
                "limits_after": _limits(run.limits_after) if run.limits_after else None,
                "rows": [_row(row, names, limits) for row in rows],
            }
        )


def _limits(limits: Limits) -> Document:
    return asdict(limits) | {"floor": limits.floor}


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is nobody to ask."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(query, check=False, capture_output=True, text=True)
    return found.stdout.splitlines()[0].strip() if found.returncode == 0 and found.stdout else None


def _row(row: Row, peers: Sequence[str], limits: Limits) -> Document:
    return measured(row, peers, _timed) | {
        "taken": row.taken,
        "least_bytes": row.case.least_traffic_bytes,
        "declared_bytes": row.declared_bytes,
        "least_share_of_copy": row.least_share(limits),
        "declared_share_of_copy": row.moved_share(limits),
    }


def _timed(timing: GpuTiming) -> Document:
    return timed(timing) | {
        "gpu_median": timing.gpu_median,
        "alone_median": timing.alone_median,
        "gpu_samples": list(timing.on_gpu),
        "alone_samples": list(timing.alone),
    }
