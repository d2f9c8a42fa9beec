"""Runs one function on every rank of a world on the GPU: as threads, or as processes that share it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ringtree as rt
from contract.processes import Processes, run_processes
from hypothesis import settings

WORLDS = range(1, 9)
TIMEOUT = 60.0

# Of examples that are many calls, or many processes, each: a third of what the profile says.
few = settings(max_examples=max(2, settings().max_examples // 3))

# How what kernels send travels (docs/gpu.md, "Packets and lines"), and which order for it a process finds in
# its environment.
ORDER = "RINGTREE_GPU_PROTOCOL"
PROTOCOLS = {"slots": "simple", "packets": "packets", "lines": "lines"}
BY_SIZE = "by size"
ORDERS = {BY_SIZE: "", **PROTOCOLS}

everywhere = ("threads", "processes")
in_threads_and_processes = pytest.mark.parametrize("where", everywhere)


def variables() -> dict[str, str]:
    """What a process must have in its environment to find the devices of this one."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in ("RINGTREE_CUDA_LIBRARY", ORDER) or name.startswith("RINGTREE_EMULATED_")
    }


@contextmanager
def ordered(protocol: str) -> Iterator[None]:
    """One of ORDERS, for worlds that begin meanwhile, whatever their ranks are."""
    before = os.environ.get(ORDER)
    os.environ[ORDER] = ORDERS[protocol]
    try:
        yield
    finally:
        if before is None:
            del os.environ[ORDER]
        else:
            os.environ[ORDER] = before


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
