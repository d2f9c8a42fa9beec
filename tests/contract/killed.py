"""A rank that is killed while all are in the middle of calls: its peers name it at once."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import ringtree as rt
from contract.attempts import WITHIN_SECONDS, Attempt, assert_error
from contract.processes import Processes


def kill_in_the_middle(
    ranks: Processes,
    world: int,
    victim: int,
    *fragments: str,
    attempt_of: Callable[[Any], Attempt] = lambda result: result,
) -> list[Any]:
    """Kills a rank once all have said so; each other one's Attempt must have ended with its name, in time.

    `fragments` are of the error's text. Returns the others' results; `attempt_of` finds the Attempt in one.
    """
    for rank in range(world):
        assert ranks.hear(rank) == "in the middle"
    killed = time.monotonic()
    os.kill(ranks.pids[victim], signal.SIGKILL)
    outcomes = ranks.outcomes()
    assert outcomes.pop(victim).exitcode == -signal.SIGKILL
    results = [outcome.result() for outcome in outcomes]
    for result in results:
        tried = attempt_of(result)
        assert_error(tried.error, rt.RankFailure, *fragments, ranks=(victim,))
        assert tried.ended - killed < WITHIN_SECONDS
    return results
