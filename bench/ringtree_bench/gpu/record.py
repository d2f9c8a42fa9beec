"""The JSON record of a run on GPUs."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.gpu.run import Run
from ringtree_bench.gpu.table import Row
from ringtree_bench.record import Document, facts, measured, timed

_SETTINGS = ("RINGTREE_", "CUDA_", "NCCL_", "TORCH_SYMM_MEM_")
_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-nccl-cu13", "nvidia-nccl-cu12")


def document(run: Run, rows: Iterable[Row], commit: str | None = None) -> Document:
    """Everything about a run; times are in seconds, sizes in bytes, rates in bytes per second.

    `commit`: what git would say, where there is no checkout.
    """
    seat = run.seat
    names = [peer.name for peer in run.peers]
    known = {"commit": commit} if commit else {}
    return {
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
        "limits": asdict(run.limits) | {"floor": run.limits.floor},
        "rows": [_row(row, names, run.limits) for row in rows],
    }


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
