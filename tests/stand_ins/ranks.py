"""Python as several ranks, started side by side as a launcher does, each with its output kept."""

import subprocess
import sys
from pathlib import Path

from contract.emulated import ROOT, environment

STAND_INS = ROOT / "tests" / "stand_ins"
WITHOUT_TORCH = STAND_INS / "without_torch"

Done = subprocess.CompletedProcess[str]


def path_of(*folders: Path) -> str:
    """A PYTHONPATH: these folders, and the sources."""
    return ":".join(map(str, [*folders, ROOT / "python", ROOT / "bench", ROOT / "tests"]))


def run_ranks(count: int, folder: Path, *command: str, timeout: float = 240, **more: str) -> list[Done]:
    """Run Python with these arguments as ranks that meet in `folder`; none is left behind."""
    world = {"WORLD_SIZE": str(count), "RINGTREE_RENDEZVOUS": f"file://{folder}", **more}
    ranks = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **world),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [rank.communicate(timeout=timeout) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [Done(rank.args, rank.returncode, *texts) for rank, texts in zip(ranks, said, strict=True)]
