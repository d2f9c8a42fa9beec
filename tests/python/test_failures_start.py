"""What keeps ranks from meeting: the environment, one another, a /dev/shm without space."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import (
    assert_error,
    attempt,
    ones,
)
from contract.processes import run_processes


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"RANK": "0"}, "RANK is set but WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set but RANK is not"),
        ({"OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_RANK is set but OMPI_COMM_WORLD_SIZE is not"),
        ({"PMI_SIZE": "2"}, "PMI_SIZE is set but PMI_RANK is not"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, "SLURM_PROCID is set but SLURM_NTASKS is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is no rank where WORLD_SIZE=2: it must be 0 to 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0 is no world size: it must be 1 or more"),
        ({"RANK": "zero", "WORLD_SIZE": "2"}, "RANK='zero' is no number"),
        (
            {"RINGTREE_TIMEOUT": "soon"},
            "RINGTREE_TIMEOUT='soon' is no timeout: it must be a number of seconds",
        ),
        (
            {"RINGTREE_ALGORITHM": "butterfly"},
            "RINGTREE_ALGORITHM='butterfly': there is no algorithm 'butterfly'",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "RINGTREE_RENDEZVOUS": "tcp://here"},
            "rendezvous 'tcp://here' is no address",
        ),
    ],
)
def test_a_half_set_or_wrong_environment_names_the_variable(
    environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("RANK", "WORLD_SIZE", "OMPI_", "PMI", "SLURM_", "MASTER_", "RINGTREE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(rt.InvalidArgument, match=re.escape(text)):
        rt.init()


def test_a_rank_that_does_not_come_to_the_rendezvous_is_named() -> None:
    outcomes = run_processes(3, world_size, present=[0, 2], options={"timeout": 0.5})
    for rank, outcome in zip((0, 2), outcomes, strict=True):
        assert_error(outcome.error, rt.Timeout, f"rank {rank}, init: rank 1 ", "within 0.5 s", ranks=(1,))


def join_with(rank_one: dict[str, str], transports: Sequence[str]) -> int:
    if os.environ["RANK"] == "1":
        os.environ.update(rank_one)
    with rt.init(timeout=0.5, transport=transports[int(os.environ["RANK"])]) as comm:
        return comm.world_size


def test_ranks_that_were_given_different_transports_are_told() -> None:
    outcomes = run_processes(2, join_with, {}, ["shm", "threads"], joined=False)
    for outcome in outcomes:
        assert_error(
            outcome.error,
            rt.TransportError,
            "rank 0 and rank 1 use different transports ('shm' and 'threads')",
        )
        assert isinstance(outcome.error, OSError)
        assert outcome.error.ranks == (0, 1)


def test_ranks_that_believe_in_different_world_sizes_are_told() -> None:
    zero, one = run_processes(2, join_with, {"WORLD_SIZE": "3"}, ["shm", "shm"], joined=False)
    # They may be told of the sizes, or, if they never get so far, of whom they have waited for.
    for rank, outcome, other in ((0, zero, "rank 1"), (1, one, "rank 2")):
        assert isinstance(outcome.error, rt.TransportError | rt.Timeout)
        assert f"rank {rank}, init: " in str(outcome.error)
        assert re.search(rf"world size|{other}\b", str(outcome.error))
        assert outcome.error.ranks


def world_size(comm: rt.Communicator) -> int:
    return comm.world_size


# /dev/shm. A mount namespace of its own lets a test have one of any size.


def describe_outcomes(function: Callable[..., Any]) -> None:
    """Runs in the program that `with_small_shm` starts: a line for each rank, then what is left."""
    for outcome in run_processes(2, function):
        print(f"{type(outcome.error).__name__}: {outcome.error}" if outcome.error else outcome.value)
    print(sorted(name for name in os.listdir("/dev/shm") if name != "ballast"))


def with_small_shm(function: Callable[..., Any], kib: int, ballast_kib: int = 0) -> list[str]:
    """What `describe_outcomes` prints where /dev/shm has `kib` KiB, of which `ballast_kib` are taken."""
    tests = Path(__file__).parents[1]
    program = (
        f"import sys; sys.path[:0] = ['{tests}', '{tests / 'python'}']; "
        f"import {Path(__file__).stem} as t; t.describe_outcomes(t.{function.__name__})"
    )
    script = f"mount -t tmpfs -o size={kib}k tmpfs /dev/shm || exit 77; "
    script += f'head -c {ballast_kib}K /dev/zero > /dev/shm/ballast; exec {sys.executable} -c "{program}"'
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) to make a small /dev/shm with")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"a mount namespace is not permitted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("kib", "ballast_kib"), [(64, 0), (65_536, 65_000)], ids=["tiny", "full"])
def test_a_shm_too_small_for_the_communicator_is_told_to_all_ranks(kib: int, ballast_kib: int) -> None:
    *ranks, left = with_small_shm(world_size, kib, ballast_kib)
    assert len(ranks) == 2
    for rank, line in enumerate(ranks):
        assert re.fullmatch(
            rf"TransportError: rank {rank}, init: on rank 0 the communicator needs \d+ MiB in /dev/shm, "
            r"which has 1 MiB free \(No space left on device\): free some or mount it larger "
            r"\(docker run --shm-size\)",
            line,
        )
    assert left == "[]"


def space_taken(comm: rt.Communicator) -> str:
    """MiB of /dev/shm that the communicator has, and the sum of a call whose pieces go round in its slots."""
    space = os.statvfs("/dev/shm")
    taken = (space.f_blocks - space.f_bfree) * space.f_frsize
    x = np.ones(1 << 20, np.float32)
    for _ in range(40):
        comm.all_reduce(x)
        x /= 2
    return f"{taken / 2**20:.0f} {x.sum():.0f}"


ROOMY = 13 if (os.cpu_count() or 1) >= 2 else 4  # a rank without a core of its own has no use for room


# docs/launching.md says how much it is.
@pytest.mark.parametrize(("kib", "mib"), [(65_536, ROOMY), (49_152, 4)], ids=["roomy", "tight"])
def test_a_communicator_takes_more_where_there_is_plenty(kib: int, mib: int) -> None:
    assert with_small_shm(space_taken, kib) == [f"{mib} {1 << 20}"] * 2 + ["[]"]


def split_without_space(comm: rt.Communicator) -> str:
    """What split() says; the sum that the communicator still makes after it."""
    tried = attempt(lambda: comm.split(0))
    x = ones()
    comm.all_reduce(x)
    return f"{type(tried.error).__name__}: {tried.error} Then: {x[0]}"


def test_a_split_without_space_fails_on_all_ranks_and_leaves_the_parent_usable() -> None:
    needed = re.search(r"needs (\d+) MiB", with_small_shm(world_size, kib=64)[0])
    assert needed is not None
    *ranks, left = with_small_shm(split_without_space, kib=int(needed[1]) * 1024 * 3 // 2)
    assert len(ranks) == 2
    for rank, line in enumerate(ranks):
        assert line.startswith(
            f"TransportError: rank {rank}, init: on rank 0 the communicator needs {needed[1]} MiB in"
        )
        assert line.endswith("Then: 2.0")
    assert left == "[]"
