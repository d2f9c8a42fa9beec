"""Runs one function on every rank of a world, over any transport of the catalogue."""

from collections.abc import Callable
from typing import Any

import ringtree as rt
from contract.processes import run_processes

WORLDS = range(1, 9)
TIMEOUT = 60.0


def run_everywhere(transport: str, world: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """The results of `function(comm, *args)` by rank. Ranks are threads for "threads", else processes."""
    if transport == "threads":
        return rt.run_local(world, function, *args, timeout=TIMEOUT)
    outcomes = run_processes(world, function, *args, options={"transport": transport, "timeout": TIMEOUT})
    return [outcome.result() for outcome in outcomes]
