"""Ranks that call what others do not, or in another place, are told so: both calls are named, to all."""

import re

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import DEAD, WITHIN_SECONDS, Attempt, Difference, assert_error
from gpu.attempts import on_the_way, warm
from gpu.memory import ones
from gpu.worlds import in_threads_and_processes, run_everywhere

DIFFERENCES = {
    "collective": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.broadcast(ones()),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"broadcast #\d+ \(float32 x 8, root 0, ",
    ),
    "barrier": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.barrier(),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"barrier #\d+ \(",
    ),
    "size": Difference(
        lambda comm: comm.all_reduce(ones(1000)),
        lambda comm: comm.all_reduce(ones(1001)),
        r"all_reduce #\d+ \(float32 x 1000, sum, ",
        r"all_reduce #\d+ \(float32 x 1001, sum, ",
    ),
    "size, far apart": Difference(
        lambda comm: comm.all_reduce(ones(500_000)),
        lambda comm: comm.all_reduce(ones(1)),
        r"all_reduce #\d+ \(float32 x 500000, sum, ",
        r"all_reduce #\d+ \(float32 x 1, sum, ",
    ),
    "dtype": Difference(
        lambda comm: comm.all_reduce(ones()),
        lambda comm: comm.all_reduce(ones(8, "int32")),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"all_reduce #\d+ \(int32 x 8, sum, ",
    ),
    "op": Difference(
        lambda comm: comm.all_reduce(ones(), "sum"),
        lambda comm: comm.all_reduce(ones(), "max"),
        r"all_reduce #\d+ \(float32 x 8, sum, ",
        r"all_reduce #\d+ \(float32 x 8, max, ",
    ),
    "root": Difference(
        lambda comm: comm.broadcast(ones(), 0),
        lambda comm: comm.broadcast(ones(), comm.world_size - 1),
        r"broadcast #\d+ \(float32 x 8, root 0, ",
        r"broadcast #\d+ \(float32 x 8, root [12], ",
    ),
    "algorithm": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(), algorithm="two_shot"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
        r"all_reduce #\d+ \(float32 x 8, sum, two_shot, on the GPU\)",
    ),
    "place": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.all_reduce(np.ones(8, np.float32), algorithm="ring"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
        r"all_reduce #\d+ \(float32 x 8, sum, ring\)",
    ),
    "place, the other way round": Difference(
        lambda comm: comm.all_reduce(np.ones(8, np.float32), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        r"all_reduce #\d+ \(float32 x 8, sum, ring\)",
        r"all_reduce #\d+ \(float32 x 8, sum, ring, on the GPU\)",
    ),
}


def make_different_calls(comm: rt.Communicator, name: str) -> tuple[Attempt, Attempt]:
    """Calls what differs, then what all call; then once more, when all is over."""
    warm(comm)
    difference = DIFFERENCES[name]
    call = difference.last if comm.rank == comm.world_size - 1 else difference.most
    first = on_the_way(comm, call, lambda comm: comm.all_reduce(ones()))
    return first, on_the_way(comm, lambda comm: comm.all_reduce(ones()))


@pytest.mark.parametrize("world", [2, 3])
@in_threads_and_processes
@pytest.mark.parametrize("name", DIFFERENCES)
def test_different_calls_are_a_mismatch_that_names_both_on_every_rank(
    name: str, where: str, world: int
) -> None:
    difference, last = DIFFERENCES[name], world - 1
    for rank, (first, again) in enumerate(run_everywhere(where, world, make_different_calls, name)):
        assert_error(first.error, rt.Mismatch, f"rank {rank}, ", DEAD)
        assert re.search(rf"rank [01] called {difference.most_described}", str(first.error)), first.error
        assert re.search(rf"rank {last} called {difference.last_described}", str(first.error)), first.error
        assert last in first.error.ranks  # type: ignore[union-attr]
        assert first.seconds < WITHIN_SECONDS
        assert type(again.error) is rt.Mismatch
        assert str(again.error).partition(": ")[2] == str(first.error).partition(": ")[2]
