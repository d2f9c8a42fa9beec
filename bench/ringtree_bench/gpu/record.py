"""The JSON record of a run on GPUs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from ringtree.tuning import tuning_path

from ringtree_bench import record
from ringtree_bench.gpu.limits import Limits
from ringtree_bench.gpu.measure import GpuTiming
from ringtree_bench.gpu.run import Run
from ringtree_bench.gpu.table import Row
from ringtree_bench.machine import machine
from ringtree_bench.record import Document

_SETTINGS = ("RINGTREE_", "CUDA_", "NCCL_", "TORCH_SYMM_MEM_")


def document(run: Run, rows: Iterable[Row], commit: str | None = None) -> Document:
    """Everything about a run; times are in seconds, sizes in bytes, rates in bytes per second.

    `commit`: what git would say, where there is no checkout.
    """
    seat = run.seat
    names = [peer.name for peer in run.peers]
    return {
        "version": 1,
        "kind": "gpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["ringtree", *sys.argv[1:]]),
        "commit": commit or record.commit(),
        "settings": {name: text for name, text in os.environ.items() if name.startswith(_SETTINGS)},
        "tuned": tuning_path().exists(),
        "machine": machine(),
        "device": seat.device,
        "driver": driver(),
        "versions": record.versions() | _versions(),
        "world": seat.size,
        "ranks": seat.kind,
        "ranks_sharing_one_gpu": seat.sharing,
        "staged": seat.staged,
        "seed": run.seed,
        "peers": {peer.name: peer.version for peer in run.peers},
        "limits": asdict(run.limits) | {"floor": run.limits.floor},
        "notes": run.notes,
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


def _versions() -> dict[str, str]:
    found = {}
    for package in ("cupy-cuda13x", "cupy-cuda12x", "nvidia-nccl-cu13", "nvidia-nccl-cu12"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _row(row: Row, peers: Sequence[str], limits: Limits) -> Document:
    case = row.case
    return {
        "collective": case.collective.name,
        "size": case.size_bytes,
        "count": case.count,
        "dtype": case.dtype,
        "op": case.op,
        "algorithm": row.algorithm,
        "taken": row.taken,
        "algbw": case.algorithm_bandwidth(row.ours.median) * 1e9 if row.ours else None,
        "busbw": case.bus_bandwidth(row.ours.median) * 1e9 if row.ours else None,
        "least_bytes": case.least_traffic_bytes,
        "declared_bytes": row.declared_bytes,
        "least_share_of_copy": row.least_share(limits),
        "declared_share_of_copy": row.moved_share(limits),
        "ringtree": _timing(row.ours),
        "peers": {name: _timing(timing) for name, timing in zip(peers, row.peers, strict=True)},
        "ratios": dict(zip(peers, row.ratios, strict=True)),
    }


def _timing(timing: GpuTiming | None) -> Document | None:
    if timing is None:
        return None
    return {
        "median": timing.median,
        "p10": timing.quantile(0.1),
        "p90": timing.quantile(0.9),
        "min": min(timing.samples),
        "gpu_median": timing.gpu_median,
        "alone_median": timing.alone_median,
        "calls_per_sample": timing.calls_per_sample,
        "wrong": timing.wrong,
        "samples": list(timing.samples),
        "gpu_samples": list(timing.on_gpu),
        "alone_samples": list(timing.alone),
    }
