"""What every rendezvous shares: the exchange, looking around until time is up, the error for who is late."""

import time
from collections.abc import Callable, Iterator, Sequence

from ringtree.errors import Timeout

Exchange = Callable[[bytes], Sequence[bytes]]

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.0005, 0.02


def looks(timeout: float) -> Iterator[float]:
    """One turn for each look around, with longer and longer sleeps between them, until time is up.

    Yields the seconds that are left. Ctrl-C ends the sleep. There is a last look when time is up.
    """
    deadline = time.monotonic() + timeout
    pause = _SHORTEST_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        yield left
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_SECONDS)
    yield 0.0


def did_not_come(rank: int, world: int, missing: list[int], timeout: float) -> Timeout:
    """The error of `rank`, which has waited for the others in vain."""
    who = f"rank{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
    error = Timeout(
        f"rank {rank}, init: {who} of {world} did not come to the rendezvous within {timeout:g} s. "
        "No communicator was opened."
    )
    error.ranks = tuple(missing)
    return error
