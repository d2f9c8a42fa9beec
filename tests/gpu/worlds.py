"""Runs one function on every rank of a world on the GPU: as threads, or as processes that share it."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import ringtree as rt
from contract.processes import Processes, run_processes

WORLDS = range(1, 9)
TIMEOUT = 60.0

everywhere = ("threads", "processes")
in_threads_and_processes = pytest.mark.parametrize("where", everywhere)


def variables() -> dict[str, str]:
    """What a process must have in its environment to find the devices of this one."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "RINGTREE_CUDA_LIBRARY" or name.startswith("RINGTREE_EMULATED_")
    }


def variables_of_two_gpus() -> dict[str, str]:
    """The same for a test that needs two of them; skips it where there is one."""
    environment = variables()
    if "RINGTREE_CUDA_LIBRARY" in environment:
        environment["RINGTREE_EMULATED_DEVICES"] = "2"
    elif rt.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    return environment


def run_threads(world: int, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> list[Any]:
    """The results of `function(comm, *args)` by rank."""
    return rt.run_local(world, function, *args, device="cuda", timeout=timeout)


def start_processes(world: int, function: Callable[..., Any], *args: Any, **settings: Any) -> Processes:
    """Like Processes; those have not touched a device, as CUDA wants it of a process that was forked."""
    environment = {**variables(), **settings.pop("environment", {})}
    return Processes(world, function, *args, environment=environment, **settings)


def run_everywhere(
    where: str, world: int, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT
) -> list[Any]:
    """As run_threads, or on processes."""
    if where == "threads":
        return run_threads(world, function, *args, timeout=timeout)
    outcomes = run_processes(world, function, *args, environment=variables(), options={"timeout": timeout})
    return [outcome.result() for outcome in outcomes]
