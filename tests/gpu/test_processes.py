"""Ranks as processes that share a GPU: they reach each other's link memory by CUDA's handles."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from contract.cases import Case, check, has_root, run_cases
from contract.processes import run_processes
from gpu import memory
from gpu.memory import on_gpu
from gpu.test_collectives import ALL, ENTRIES, one_of_each, protocols
from gpu.worlds import TIMEOUT, few, ordered, run_everywhere, variables
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("world", [2, 4])
@few
@given(data=st.data(), protocol=protocols)
def test_every_algorithm_agrees_with_numpy(data: st.DataObject, world: int, protocol: str) -> None:
    sequence = one_of_each(data, world, ALL)
    with ordered(protocol):
        by_rank = run_everywhere("processes", world, run_cases, sequence, memory.for_case)
    for case, *results in zip(sequence, *by_rank, strict=True):
        check(case, results)


@pytest.mark.parametrize("world", [2, 4])
def test_buffers_that_go_round_the_slots_several_times(world: int) -> None:
    sequence = [
        Case(
            collective,
            algorithm,
            "float32",
            (1 << 20) // world + 13,
            root=world - 1 if has_root(collective) else 0,
        )
        for collective, algorithm in ENTRIES
    ]
    by_rank = run_everywhere("processes", world, run_cases, sequence, memory.for_case)
    for case, *results in zip(sequence, *by_rank, strict=True):
        check(case, results)


def give_the_process_away(comm: rt.Communicator) -> int:
    x = on_gpu(np.full(1000, comm.rank + 1, np.float32))
    comm.all_reduce(x)
    assert (np.asarray(x) == comm.world_size * (comm.world_size + 1) / 2).all()
    return os.getpid()


def test_ranks_are_processes_of_their_own() -> None:
    pids = run_everywhere("processes", 4, give_the_process_away)
    assert len({*pids, os.getpid()}) == 5


def join_over_threads_of_shm(comm: rt.Communicator) -> str:
    give_the_process_away(comm)
    return comm.transport


def test_threads_that_meet_in_a_shared_segment_use_the_gpu_too() -> None:
    outcomes = rt.run_local(3, join_over_threads_of_shm, transport="shm", device="cuda", timeout=TIMEOUT)
    assert outcomes == ["shm"] * 3


PROGRAM = """
import numpy as np
import ringtree as rt

with rt.init() as comm:
    x = comm.empty(1000, device="cuda")
    x.set(comm.rank + 1)
    comm.all_reduce(x)
    print(f"rank {comm.rank}: {x.get().sum():.0f}")
"""


def test_a_program_of_a_few_lines_runs_under_ringtree_run(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "ringtree", "run", "-n", "2", str(program)],
        env={**os.environ, **variables()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0: 3000" in done.stdout
    assert "rank 1: 3000" in done.stdout


def open_without_the_library(comm: rt.Communicator) -> str:
    """Rank 1 has no CUDA library, rank 0 has one."""
    x = np.ones(8, np.float32)
    comm.all_reduce(x)
    return str(x[0])


def test_ranks_without_a_library_still_use_the_cpu() -> None:
    environment = {"RINGTREE_CUDA_LIBRARY": "/nonexistent"}
    for outcome in run_processes(2, open_without_the_library, environment=environment):
        assert outcome.result() == "2.0"
