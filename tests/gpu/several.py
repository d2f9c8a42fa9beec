"""Worlds on two GPUs, of which threads and processes take one each, or share one."""

from collections.abc import Callable
from typing import Any

import ringtree as rt
from contract.cases import Case, check, has_root, run_cases
from contract.processes import run_processes
from gpu import memory
from gpu.devices import set_device
from gpu.test_collectives import ENTRIES
from gpu.worlds import TIMEOUT

DEVICES = (0, 1, 1)  # of ranks


def sit(comm: rt.Communicator) -> None:
    """Work on the rank's GPU from now on."""
    set_device(DEVICES[comm.rank])


def run_on_two_gpus(
    where: str, environment: dict[str, str], world: int, function: Callable[..., Any], *args: Any
) -> list[Any]:
    """The results of `function(comm, *args)` by rank. Threads have a process of their own, for its devices."""
    if where == "processes":
        options = {"timeout": TIMEOUT}
        outcomes = run_processes(world, function, *args, environment=environment, options=options)
        return [outcome.result() for outcome in outcomes]
    (outcome,) = run_processes(1, _as_threads, world, function, args, environment=environment)
    results: list[Any] = outcome.result()
    return results


def _as_threads(_: rt.Communicator, world: int, function: Any, args: tuple[Any, ...]) -> list[Any]:
    return rt.run_local(world, function, *args, device="cuda", timeout=TIMEOUT)


def check_every_algorithm(
    where: str, environment: dict[str, str], world: int, count: int, staged: bool
) -> None:
    """Each by its own name, on `count` elements; and whether the ranks stage."""
    sequence = [
        Case(collective, algorithm, "float32", count, root=world - 1 if has_root(collective) else 0)
        for collective, algorithm in ENTRIES
    ]
    by_rank = run_on_two_gpus(where, environment, world, _run_cases_there, sequence)
    assert [is_staged for is_staged, _ in by_rank] == [staged] * world
    for case, *results in zip(sequence, *(results for _, results in by_rank), strict=True):
        check(case, results)


def _run_cases_there(comm: rt.Communicator, sequence: list[Case]) -> tuple[bool, Any]:
    sit(comm)
    results = run_cases(comm, sequence, memory.for_case)
    return comm.staged, results
