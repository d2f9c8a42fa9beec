"""What tests of failures share: a call that may raise, the errors' common words, and when a process waits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ringtree as rt

DEAD = "This communicator can no longer be used: close it and create a new one."
USABLE = "Nothing was sent and the communicator stays usable."
Call = Callable[[rt.Communicator], object]
WITHIN_SECONDS = 1.0  # from a rank's call to its Mismatch, RankFailure or KeyboardInterrupt


@dataclass(frozen=True)
class Attempt:
    """A call that may have raised, and when."""

    error: BaseException | None
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Difference:
    """The last rank's call differs from what the others call."""

    most: Call
    last: Call
    most_described: str
    last_described: str
    remark: str = ""


def attempt(call: Callable[[], object]) -> Attempt:
    began = time.monotonic()
    error: BaseException | None = None
    try:
        call()
    except (Exception, KeyboardInterrupt) as raised:
        error = raised.with_traceback(None)
    return Attempt(error, began, time.monotonic())


def ones(count: int = 8, dtype: str = "float32") -> Any:
    return np.ones(count, dtype)


def assert_error(
    error: BaseException | None,
    kind: type[rt.RingtreeError],
    *fragments: str,
    ranks: Sequence[int] | None = None,
) -> None:
    assert type(error) is kind, repr(error)
    for fragment in fragments:
        assert fragment in str(error)
    if ranks is not None:
        assert error.ranks == tuple(ranks)


# A call of every kind, for a world of 2.
EVERY_CALL: dict[str, Call] = {
    "all_reduce": lambda comm: comm.all_reduce(ones()),
    "reduce": lambda comm: comm.reduce(ones()),
    "reduce_scatter": lambda comm: comm.reduce_scatter(ones(1), ones(2)),
    "broadcast": lambda comm: comm.broadcast(ones()),
    "all_gather": lambda comm: comm.all_gather(ones(2), ones(1)),
    "all_to_all": lambda comm: comm.all_to_all(ones(2), ones(2)),
    "gather": lambda comm: comm.gather(ones(2), ones(1)),
    "scatter": lambda comm: comm.scatter(ones(1), ones(2)),
    "barrier": lambda comm: comm.barrier(),
    "send": lambda comm: comm.send(ones(), 1 - comm.rank),
    "recv": lambda comm: comm.recv(ones(), 1 - comm.rank),
    "abort": lambda comm: comm.abort("for no reason"),
}


def sleep_when_blocked(pid: int, naps: int = 10) -> None:
    """Returns once a process that has nothing left to do but wait has slept and looked around a few times."""

    def naps_so_far() -> int:
        statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
        return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in statuses)

    begin, deadline = naps_so_far(), time.monotonic() + 30
    while naps_so_far() < begin + naps:
        assert time.monotonic() < deadline, f"process {pid} does not wait"
        time.sleep(0.005)
