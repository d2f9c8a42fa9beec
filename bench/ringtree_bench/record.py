"""The JSON record of a run: what was measured, on what, with which versions."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ringtree as rt
from ringtree.tuning import tuning_path

from ringtree_bench.machine import machine
from ringtree_bench.measure import Timing
from ringtree_bench.run import Run
from ringtree_bench.table import Row

Document = dict[str, Any]


def commit() -> str | None:
    """The commit that ringtree was imported from, with `-dirty` behind it; None outside of a git checkout."""
    where = Path(rt.__file__).parent
    try:
        if _git("check-ignore", "-q", ".", at=where).returncode == 0:
            return None  # installed below some checkout, not from it
        found = _git("describe", "--always", "--dirty", "--abbrev=12", at=where)
    except OSError:
        return None  # no git
    return found.stdout.strip() or None


def _git(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=at, check=False, capture_output=True, text=True)


def versions() -> Document:
    """Versions of all that takes part and is installed."""
    found = {"ringtree": rt.__version__, "python": platform.python_version()}
    for package in ("numpy", "torch", "mpi4py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def document(run: Run, rows: Iterable[Row]) -> Document:
    """Everything about a run; times are in seconds, sizes in bytes, rates in bytes per second."""
    world, peers, limits = run.world, run.peers, run.limits
    names = [peer.name for peer in peers]
    return {
        "version": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["ringtree", *sys.argv[1:]]),
        "commit": commit(),
        "settings": {name: value for name, value in os.environ.items() if name.startswith("RINGTREE_")},
        "load_before": run.load,
        "tuned": tuning_path().exists(),
        "machine": machine(),
        "versions": versions(),
        "world": world.size,
        "hosts": len(set(world.hosts)),
        "transport": world.comm.transport,
        "zero_copy": run.zero_copy,
        "seed": run.seed,
        "peers": {peer.name: peer.version for peer in peers},
        "memory": asdict(limits),
        "notes": run.notes,
        "rows": [_row(row, names) for row in rows],
    }


def _row(row: Row, peers: Sequence[str]) -> Document:
    case = row.case
    return {
        "collective": case.collective.name,
        "label": case.label,
        "size": case.size_bytes,
        "count": case.count,
        "buckets": list(case.parts) if len(case.parts) > 1 else None,
        "dtype": case.dtype,
        "op": case.op,
        "algorithm": row.algorithm,
        "ideal": row.ideal_seconds,
        "algbw": case.algorithm_bandwidth(row.ours.median) * 1e9 if row.ours else None,
        "busbw": case.bus_bandwidth(row.ours.median) * 1e9 if row.ours else None,
        "bus_factor": case.collective.bus_factor(case.world),
        "ringtree": _timing(row.ours),
        "peers": {name: _timing(timing) for name, timing in zip(peers, row.peers, strict=True)},
        "ratios": dict(zip(peers, row.ratios, strict=True)),
    }


def _timing(timing: Timing | None) -> Document | None:
    if timing is None:
        return None
    return {
        "median": timing.median,
        "p10": timing.quantile(0.1),
        "p90": timing.quantile(0.9),
        "min": min(timing.samples),
        "calls_per_sample": timing.calls_per_sample,
        "wrong": timing.wrong,
        "samples": list(timing.samples),
    }


def write(path: Path, run: Document) -> None:
    """Write `run` to `path`; a file called `.jsonl` keeps the runs it has and gets one line more."""
    if path.suffix == ".jsonl":
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(run) + "\n")
    else:
        path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
