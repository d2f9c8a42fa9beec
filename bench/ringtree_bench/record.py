"""The JSON record of a run: what was measured, on what, with which versions."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ringtree as rt
from ringtree.tuning import tuning_path

from ringtree_bench.machine import machine
from ringtree_bench.rounds import Timing
from ringtree_bench.run import Run
from ringtree_bench.suite import Suite
from ringtree_bench.table import AnyRow, Row

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


def versions(more: Iterable[str]) -> dict[str, str]:
    """Versions of all that takes part and is installed, `more` packages among them."""
    found = {"ringtree": rt.__version__, "python": platform.python_version()}
    for package in ("numpy", "torch", "mpi4py", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def facts(
    suite: Suite[Any], settings: tuple[str, ...] = ("RINGTREE_",), packages: Iterable[str] = ()
) -> Document:
    """What there is to say of any run: of the environment, variables that begin like one of `settings`."""
    return {
        "version": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["ringtree", *sys.argv[1:]]),
        "commit": commit(),
        "settings": {name: value for name, value in os.environ.items() if name.startswith(settings)},
        "tuned": tuning_path().exists(),
        "machine": machine(),
        "versions": versions(packages),
        "seed": suite.seed,
        "peers": {peer.name: peer.version for peer in suite.peers},
        "notes": suite.notes,
    }


def document(run: Run, rows: Iterable[Row]) -> Document:
    """Everything about a run; times are in seconds, sizes in bytes, rates in bytes per second."""
    world = run.world
    return facts(run) | {
        "load_before": run.load,
        "world": world.size,
        "hosts": len(set(world.hosts)),
        "transport": world.comm.transport,
        "zero_copy": run.zero_copy,
        "memory": asdict(run.limits),
        "rows": [_row(row, [peer.name for peer in run.peers]) for row in rows],
    }


def _row(row: Row, peers: Sequence[str]) -> Document:
    case = row.case
    return measured(row, peers, timed) | {
        "label": case.label,
        "buckets": list(case.parts) if len(case.parts) > 1 else None,
        "ideal": row.ideal_seconds,
        "bus_factor": case.collective.bus_factor(case.world),
    }


def measured(row: AnyRow, peers: Sequence[str], timed: Callable[[Any], Document]) -> Document:
    """What there is to say of any row; `timed` makes a document of a timing."""
    case, ours = row.case, row.ours
    return {
        "collective": case.collective.name,
        "size": case.size_bytes,
        "count": case.count,
        "dtype": case.dtype,
        "op": case.op,
        "algorithm": row.algorithm,
        "algbw": case.algorithm_bandwidth(ours.median) * 1e9 if ours else None,
        "busbw": case.bus_bandwidth(ours.median) * 1e9 if ours else None,
        "ringtree": timed(ours) if ours else None,
        "peers": {name: timed(peer) if peer else None for name, peer in zip(peers, row.peers, strict=True)},
        "ratios": dict(zip(peers, row.ratios, strict=True)),
    }


def timed(timing: Timing) -> Document:
    """A timing, with every sample."""
    return {
        "median": timing.median,
        "p10": timing.quantile(0.1),
        "p90": timing.quantile(0.9),
        "min": min(timing.samples),
        "calls_per_sample": timing.calls_per_sample,
        "wrong": timing.wrong,
        "samples": list(timing.samples),
    }
