"""A rank that is killed while all are in the middle of calls: its peers name it at once."""

import os
import signal
import time

import ringtree as rt
from contract.attempts import WITHIN_SECONDS, assert_error
from contract.processes import Processes


def kill_in_the_middle(ranks: Processes, world: int, victim: int, *fragments: str) -> None:
    """Kills a rank once all have said so; each other one's Attempt must have ended with its name, in time.

    `fragments` are of the error's text.
    """
    for rank in range(world):
        assert ranks.hear(rank) == "in the middle"
    killed = time.monotonic()
    os.kill(ranks.pids[victim], signal.SIGKILL)
    outcomes = ranks.outcomes()
    assert outcomes.pop(victim).exitcode == -signal.SIGKILL
    for outcome in outcomes:
        tried = outcome.result()
        assert_error(tried.error, rt.RankFailure, *fragments, ranks=(victim,))
        assert tried.ended - killed < WITHIN_SECONDS
