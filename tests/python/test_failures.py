"""What goes wrong is told on every rank concerned: who, in which call, whether one can go on; and nothing hangs."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.processes import Processes, listen, run_processes, tell
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

Call = Callable[[rt.Communicator], object]

DEAD = "This communicator can no longer be used: close it and create a new one."
USABLE = "Nothing was sent and the communicator stays usable."
WITHIN_SECONDS = 1.0  # from a rank's call to its Mismatch, RankFailure or KeyboardInterrupt

everywhere = pytest.mark.parametrize("transport", TRANSPORTS)


@dataclass(frozen=True)
class Attempt:
    """A call that may have raised, and when."""

    error: BaseException | None
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


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


# Ranks that make different calls


@dataclass(frozen=True)
class Difference:
    """The last rank's call differs from what the others call."""

    most: Call
    last: Call
    most_described: str
    last_described: str
    remark: str = ""


def shares(comm: rt.Communicator, first: int) -> list[int]:
    """Rank 0 has another share than the others."""
    return [first] + [8] * (comm.world_size - 1)


def gather_shares(comm: rt.Communicator, first: int) -> None:
    counts = shares(comm, first)
    comm.all_gather_v(ones(sum(counts)), ones(counts[comm.rank]), counts, algorithm="ring")


def reduce_shares(comm: rt.Communicator, first: int) -> None:
    counts = shares(comm, first)
    comm.reduce_scatter_v(ones(counts[comm.rank]), ones(sum(counts)), counts, algorithm="ring")


DIFFERENCES = {
    "collective": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.broadcast(ones(), algorithm="ring"),
        "all_reduce #2 (float32 x 8, sum, ring)",
        "broadcast #2 (float32 x 8, root 0, ring)",
    ),
    "barrier": Difference(
        lambda comm: comm.all_gather(ones(8 * comm.world_size), ones(), algorithm="ring"),
        lambda comm: comm.barrier(algorithm="dissemination"),
        "all_gather #2 (float32 x 8, ring)",
        "barrier #2 (dissemination)",
    ),
    "size": Difference(
        lambda comm: comm.all_reduce(ones(1000), algorithm="two_shot"),
        lambda comm: comm.all_reduce(ones(1001), algorithm="two_shot"),
        "all_reduce #2 (float32 x 1000, sum, two_shot)",
        "all_reduce #2 (float32 x 1001, sum, two_shot)",
    ),
    "size, far apart": Difference(
        lambda comm: comm.all_reduce(ones(2_000_000), algorithm="one_shot"),
        lambda comm: comm.all_reduce(ones(1), algorithm="one_shot"),
        "all_reduce #2 (float32 x 2000000, sum, one_shot)",
        "all_reduce #2 (float32 x 1, sum, one_shot)",
    ),
    "nothing": Difference(
        lambda comm: comm.all_reduce(ones(0), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(5), algorithm="ring"),
        "all_reduce #2 (float32 x 0, sum, ring)",
        "all_reduce #2 (float32 x 5, sum, ring)",
    ),
    "dtype of the same width": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="double_tree"),
        lambda comm: comm.all_reduce(ones(dtype="int32"), algorithm="double_tree"),
        "all_reduce #2 (float32 x 8, sum, double_tree)",
        "all_reduce #2 (int32 x 8, sum, double_tree)",
    ),
    "op": Difference(
        lambda comm: comm.all_reduce(ones(), "sum", algorithm="recursive_doubling"),
        lambda comm: comm.all_reduce(ones(), "max", algorithm="recursive_doubling"),
        "all_reduce #2 (float32 x 8, sum, recursive_doubling)",
        "all_reduce #2 (float32 x 8, max, recursive_doubling)",
    ),
    "root of a broadcast": Difference(
        lambda comm: comm.broadcast(ones(), 0, algorithm="one_shot"),
        lambda comm: comm.broadcast(ones(), comm.world_size - 1, algorithm="one_shot"),
        "broadcast #2 (float32 x 8, root 0, one_shot)",
        "broadcast #2 (float32 x 8, root {last}, one_shot)",
    ),
    "root of a reduce": Difference(
        lambda comm: comm.reduce(ones(), 0, algorithm="double_tree"),
        lambda comm: comm.reduce(ones(), comm.world_size - 1, algorithm="double_tree"),
        "reduce #2 (float32 x 8, sum, root 0, double_tree)",
        "reduce #2 (float32 x 8, sum, root {last}, double_tree)",
    ),
    "root of a gather": Difference(
        lambda comm: comm.gather(ones(8 * comm.world_size), ones(), 0, algorithm="direct"),
        lambda comm: comm.gather(ones(8 * comm.world_size), ones(), comm.world_size - 1, algorithm="direct"),
        "gather #2 (float32 x 8, root 0, direct)",
        "gather #2 (float32 x 8, root {last}, direct)",
    ),
    "root of a scatter": Difference(
        lambda comm: comm.scatter(ones(), ones(8 * comm.world_size), 0, algorithm="direct"),
        lambda comm: comm.scatter(ones(), ones(8 * comm.world_size), comm.world_size - 1, algorithm="direct"),
        "scatter #2 (float32 x 8, root 0, direct)",
        "scatter #2 (float32 x 8, root {last}, direct)",
    ),
    "algorithm": Difference(
        lambda comm: comm.all_reduce(ones(), algorithm="ring"),
        lambda comm: comm.all_reduce(ones(), algorithm="halving_doubling"),
        "all_reduce #2 (float32 x 8, sum, ring)",
        "all_reduce #2 (float32 x 8, sum, halving_doubling)",
    ),
    "counts of an all_gather_v": Difference(
        lambda comm: gather_shares(comm, 9),
        lambda comm: gather_shares(comm, 10),
        "all_gather #2 (float32 in uneven shares, ring)",
        "all_gather #2 (float32 in uneven shares, ring)",
        "and the counts they gave differ",
    ),
    "counts of a reduce_scatter_v": Difference(
        lambda comm: reduce_shares(comm, 9),
        lambda comm: reduce_shares(comm, 10),
        "reduce_scatter #2 (float32 in uneven shares, sum, ring)",
        "reduce_scatter #2 (float32 in uneven shares, sum, ring)",
        "and the counts they gave differ",
    ),
}


def make_different_calls(comm: rt.Communicator, name: str) -> tuple[Attempt, Attempt]:
    """The calls after a first one that all make; and what a further call says then."""
    comm.barrier()
    difference = DIFFERENCES[name]
    call = difference.last if comm.rank == comm.world_size - 1 else difference.most
    return attempt(lambda: call(comm)), attempt(lambda: comm.all_reduce(ones()))


@pytest.mark.parametrize("world", [2, 3])
@everywhere
@pytest.mark.parametrize("name", DIFFERENCES)
def test_different_calls_are_a_mismatch_that_names_both_on_every_rank(
    name: str, transport: str, world: int
) -> None:
    difference, last = DIFFERENCES[name], world - 1
    for rank, (first, again) in enumerate(run_everywhere(transport, world, make_different_calls, name)):
        own = difference.last_described if rank == last else difference.most_described
        assert_error(
            first.error,
            rt.Mismatch,
            f"rank {rank}, {own.format(last=last)}: ",
            f"called {difference.most_described}",
            f"called {difference.last_described.format(last=last)}",
            difference.remark,
            DEAD,
        )
        one, other = first.error.ranks
        assert one < other == last
        assert f"rank {one} called" in str(first.error)
        assert f"rank {other} called" in str(first.error)
        assert first.seconds < WITHIN_SECONDS
        assert_error(again.error, rt.Mismatch, f"rank {rank}, all_reduce #3", DEAD, ranks=(one, other))


def scatter_from_oneself(comm: rt.Communicator) -> Attempt:
    return attempt(lambda: comm.scatter(ones(), ones(8 * comm.world_size), comm.rank))


def test_no_rank_misses_a_mismatch_that_all_find_at_once() -> None:
    """Nothing here waits for what a peer sends: the ranks see one another's calls at the same moment."""
    for _ in range(300):
        for rank, tried in enumerate(rt.run_local(2, scatter_from_oneself)):
            assert_error(
                tried.error, rt.Mismatch, f"rank {rank}, scatter #1 (float32 x 8, root {rank}, ", ranks=(0, 1)
            )


def exchange_unequal_shares(comm: rt.Communicator) -> Attempt:
    """The last rank expects one element more from rank 0 than that sends; only the two know of it."""
    comm.barrier()
    world, rank = comm.world_size, comm.rank
    received = [5] * world
    received[0] += rank == world - 1

    def exchange() -> None:
        comm.all_to_all_v(ones(sum(received)), ones(5 * world), received, [5] * world, algorithm="pairwise")
        comm.barrier()  # who had no part in it, or had sent already, hears of it here

    return attempt(exchange)


@everywhere
def test_counts_that_differ_between_one_pair_are_a_mismatch_of_that_pair(transport: str) -> None:
    tried = run_everywhere(transport, 3, exchange_unequal_shares)
    story = (
        "in all_to_all #2 (float32 in uneven shares, pairwise) rank 0 sent a piece of 20 bytes where rank 2 expects "
        f"24: the counts they gave differ. {DEAD}"
    )
    for rank, one in enumerate(tried):
        assert_error(one.error, rt.Mismatch, f"rank {rank}, ", story, ranks=(0, 2))
        assert one.seconds < WITHIN_SECONDS
    assert str(tried[2].error).startswith("rank 2, all_to_all #2 (float32 in uneven shares, pairwise): ")


MESSAGES = {
    "size": (ones(8), ones(9), "float32 x 8", "float32 x 9"),
    "dtype": (ones(8), ones(8, "int32"), "float32 x 8", "int32 x 8"),
    "size of many pieces": (ones(1_000_000), ones(999_999), "float32 x 1000000", "float32 x 999999"),
}


def send_something_else(comm: rt.Communicator, name: str) -> Attempt:
    sent, expected, _, _ = MESSAGES[name]
    if comm.rank == 0:
        comm.send(ones(), 1)
        return attempt(lambda: (comm.send(sent, 1), comm.recv(ones(), 1)))
    comm.recv(ones(), 0)
    return attempt(lambda: comm.recv(expected.copy(), 0))


@everywhere
@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_not_what_is_expected_is_a_mismatch_on_both_sides(
    name: str, transport: str
) -> None:
    _, _, sent, expected = MESSAGES[name]
    story = f"rank 0 sent {sent} to rank 1, which receives {expected}. {DEAD}"
    sender, receiver = run_everywhere(transport, 2, send_something_else, name)
    assert_error(
        receiver.error, rt.Mismatch, f"rank 1, recv #2 from rank 0 ({expected}): {story}", ranks=(0, 1)
    )
    assert_error(sender.error, rt.Mismatch, "rank 0, ", story, ranks=(0, 1))
    assert re.search(r"rank 0, (send #2 to|recv #1 from) rank 1 ", str(sender.error))
    assert receiver.seconds < WITHIN_SECONDS
    assert sender.seconds < WITHIN_SECONDS


# Ranks that do not come


def come_too_late(comm: rt.Communicator, latch: threading.Event | None) -> Attempt:
    """The last rank calls only when the others have given up."""
    comm.barrier()
    if comm.rank == comm.world_size - 1:
        assert latch.wait(30) if latch else listen()
    tried = attempt(lambda: comm.all_reduce(ones(), algorithm="ring"))
    if comm.rank == 0:
        if latch:
            latch.set()
        else:
            tell("gave up")
    return tried


def assert_told_of_the_late_rank(tried: Sequence[Attempt]) -> None:
    for rank, one in enumerate(tried):
        assert_error(
            one.error,
            rt.Timeout,
            f"rank {rank}, all_reduce #2 (float32 x 8, sum, ring): all_reduce #2 (float32 x 8, sum, ring) was not "
            f"complete after 0.5 s: rank 2 has not called it. {DEAD}",
            ranks=(2,),
        )
        assert isinstance(one.error, TimeoutError)
    assert all(0.4 < one.seconds < 0.5 + WITHIN_SECONDS for one in tried[:-1])
    assert tried[-1].seconds < WITHIN_SECONDS


def test_a_rank_that_does_not_come_is_named_by_the_timeout() -> None:
    with Processes(3, come_too_late, None, options={"timeout": 0.5}) as ranks:
        assert ranks.hear(0) == "gave up"
        ranks.say(2, True)
        assert_told_of_the_late_rank([outcome.result() for outcome in ranks.outcomes()])


def test_a_thread_that_does_not_come_is_named_by_the_timeout() -> None:
    assert_told_of_the_late_rank(rt.run_local(3, come_too_late, threading.Event(), timeout=0.5))


def wait_for_nothing(comm: rt.Communicator) -> Attempt:
    comm.barrier()
    if comm.rank == 0:
        return attempt(lambda: comm.recv(ones(), 1))
    return attempt(lambda: comm.all_reduce(ones(), algorithm="ring"))


@everywhere
def test_calls_that_wait_for_different_things_time_out(transport: str) -> None:
    def run() -> list[Attempt]:
        if transport == "threads":
            return rt.run_local(2, wait_for_nothing, timeout=0.5)
        options = {"timeout": 0.5, "transport": transport}
        return [outcome.result() for outcome in run_processes(2, wait_for_nothing, options=options)]

    for rank, tried in enumerate(run()):
        call = ("recv #1 from rank 1 (float32 x 8)", "all_reduce #2 (float32 x 8, sum, ring)")[rank]
        assert_error(tried.error, rt.Timeout, f"rank {rank}, {call}: ", " 0.5 s", DEAD)
        assert len(tried.error.ranks) == 1
        assert tried.seconds < 0.5 + WITHIN_SECONDS


def wait_in_vain_then_again(comm: rt.Communicator) -> tuple[Attempt, Any]:
    """Rank 0 waits briefly for a call that rank 1 makes only then."""
    x = ones()
    if comm.rank == 1:
        comm.recv(ones(), 0)
        comm.all_reduce(x, algorithm="ring")
        return Attempt(None, 0, 0), x
    work = comm.all_reduce(x, algorithm="ring", async_op=True)
    assert work is not None
    tried = attempt(lambda: work.wait(timeout=0.05))
    assert not work.done()
    comm.send(ones(), 1)
    work.wait(timeout=30)
    assert work.done()
    return tried, x


@everywhere
def test_a_wait_with_a_time_of_its_own_ends_the_wait_and_not_the_call(transport: str) -> None:
    (tried, mine), (_, other) = run_everywhere(transport, 2, wait_in_vain_then_again)
    assert_error(
        tried.error,
        rt.Timeout,
        "rank 0, all_reduce #1 (float32 x 8, sum, ring) was not finished within the 0.05 s that wait() was given",
        "the communicator stays usable",
    )
    assert (mine == 2).all()
    assert (other == 2).all()


# Arguments that are wrong

READ_ONLY = np.ones(8, np.float32)
READ_ONLY.flags.writeable = False
LONG = np.ones(30, np.float32)

# What every rank of a world of 2 calls, and what each is told.
INVALID: dict[str, tuple[Call, tuple[str, ...]]] = {
    "no array": (lambda comm: comm.all_reduce([1.0, 2.0]), ("all_reduce", "x ", "list")),
    "nothing": (lambda comm: comm.all_reduce(None), ("all_reduce", "x ", "None, not an array")),
    "a type there is not": (
        lambda comm: comm.all_reduce(ones(8, "complex64")),
        ("all_reduce", "x ", "complex64", "there are float64, float32, "),
    ),
    "foreign byte order": (lambda comm: comm.all_reduce(ones(8, ">f4")), ("all_reduce", "x ", "byte")),
    "not contiguous": (lambda comm: comm.all_reduce(LONG[::2]), ("all_reduce", "x ", "contiguous")),
    "transposed": (lambda comm: comm.broadcast(LONG.reshape(5, 6).T), ("broadcast", "x ", "contiguous")),
    "read-only": (lambda comm: comm.all_reduce(READ_ONLY), ("all_reduce", "x ", "read-only")),
    "read-only to receive into": (
        lambda comm: comm.recv(READ_ONLY, 1 - comm.rank),
        ("recv", "x ", "read-only"),
    ),
    "an op there is not": (
        lambda comm: comm.all_reduce(ones(), "mean"),
        ("all_reduce", "there is no op 'mean'", "there are sum, prod, min, max, avg, "),
    ),
    "an op without its factor": (
        lambda comm: comm.reduce(ones(), 0, "premul_sum"),
        ("reduce", "op 'premul_sum' needs a factor"),
    ),
    "bits of a float": (
        lambda comm: comm.all_reduce(ones(), "bxor"),
        ("all_reduce", "op bxor does not exist for float32", "band, bor and bxor need integers or bool"),
    ),
    "an average of integers": (
        lambda comm: comm.reduce_scatter(ones(2, "int32"), ones(4, "int32"), "avg"),
        ("reduce_scatter", "op avg does not exist for int32", "avg and premul_sum need a float type"),
    ),
    "an algorithm there is not": (
        lambda comm: comm.all_reduce(ones(), algorithm="butterfly"),
        ("all_reduce", "there is no algorithm 'butterfly'", "there are auto, ", "ring"),
    ),
    "an algorithm of another collective": (
        lambda comm: comm.barrier(algorithm="ring"),
        ("barrier", "there is no algorithm 'ring'", "there are auto, ", "dissemination"),
    ),
    "an algorithm for even shares": (
        lambda comm: comm.all_to_all_v(
            ones(3),
            ones(2 + 2 * comm.rank),
            [1 + comm.rank, 2 - comm.rank],
            [1 + comm.rank] * 2,
            algorithm="one_shot",
        ),
        ("all_to_all", "the algorithm 'one_shot' needs shares of equal size"),
    ),
    "a root that is too large": (
        lambda comm: comm.broadcast(ones(), 2),
        ("broadcast", "root must be a rank of this world, 0 to 1, not 2"),
    ),
    "a negative root": (
        lambda comm: comm.reduce(ones(), -1),
        ("reduce", "root must be a rank of this world, 0 to 1, not -1"),
    ),
    "a root that is no number": (
        lambda comm: comm.broadcast(ones(), "first"),  # type: ignore[arg-type]
        ("broadcast", "root must be a rank of this world, 0 to 1, not 'first'"),
    ),
    "a gather to nobody": (
        lambda comm: comm.gather(None, ones(), 7),
        ("gather", "root must be a rank of this world, 0 to 1, not 7"),
    ),
    "a scatter from nobody": (
        lambda comm: comm.scatter(ones(), None, 7),
        ("scatter", "root must be a rank of this world, 0 to 1, not 7"),
    ),
    "an out of another size": (
        lambda comm: comm.all_reduce(ones(8), out=ones(9)),
        ("all_reduce", "out ", "9", "8"),
    ),
    "an out of another type": (
        lambda comm: comm.all_reduce(ones(8), out=ones(8, "float64")),
        ("all_reduce", "x is float32 x 8 but out is float64 x 8"),
    ),
    "an out for one share": (
        lambda comm: comm.all_gather(ones(8), ones(8)),
        ("all_gather", "out is float32 x 8, but must have 16 elements"),
    ),
    "an x for one share": (
        lambda comm: comm.reduce_scatter(ones(8), ones(8)),
        ("reduce_scatter", "x is float32 x 8, but must have 16 elements"),
    ),
    "no whole shares": (
        lambda comm: comm.all_to_all(ones(3), ones(3)),
        ("all_to_all", "x is float32 x 3, which makes no 2 equal parts"),
    ),
    "counts for others": (
        lambda comm: comm.all_gather_v(ones(3), ones(1), [1, 1, 1]),
        ("all_gather_v", "counts must be 2 numbers of elements, one for each rank, not [1, 1, 1]"),
    ),
    "negative counts": (
        lambda comm: comm.all_gather_v(ones(3), ones(4), [4, -1]),
        ("all_gather_v", "counts must be 2 numbers of elements, one for each rank, not [4, -1]"),
    ),
    "counts of something else": (
        lambda comm: comm.reduce_scatter_v(ones(3), ones(9), [3, 5]),
        ("reduce_scatter_v", "counts add up to 8 elements, but x holds float32 x 9"),
    ),
    "counts of another rank": (
        lambda comm: comm.all_gather_v(ones(7), ones(5), [3, 4]),
        ("all_gather_v", "x is float32 x 5, but must have "),
    ),
    "counts into another array": (
        lambda comm: comm.all_to_all_v(ones(4), ones(4), [2, 2], [2, 3]),
        ("all_to_all_v", "in_counts add up to 5 elements, but x holds float32 x 4"),
    ),
    "arrays that overlap": (
        lambda comm: comm.all_reduce(LONG[:20], out=LONG[10:]),
        ("all_reduce", "overlap in memory"),
    ),
    "another rank's share": (
        lambda comm: comm.all_gather(LONG[:8], LONG[4 - 4 * comm.rank :][:4]),
        ("all_gather", "overlap in memory"),
    ),
    "in place where that cannot be": (
        lambda comm: comm.all_to_all(LONG, LONG),
        ("all_to_all", "overlap in memory"),
    ),
    "a message to itself": (
        lambda comm: comm.send(ones(), comm.rank),
        ("send", "the peer must be another rank of this world of 2, not "),
    ),
    "a message from nobody": (
        lambda comm: comm.recv(ones(), 2),
        ("recv", "source must be a rank of this world, 0 to 1, not 2"),
    ),
    "messages of two types": (
        lambda comm: comm.sendrecv(ones(), ones(8, "int32"), to=1 - comm.rank, source=1 - comm.rank),
        ("sendrecv", "float32 x 8", "int32 x 8", "one type"),
    ),
}


def try_wrong_call_then_right_one(comm: rt.Communicator, call: Call) -> tuple[Attempt, Any]:
    tried = attempt(lambda: call(comm))
    x = ones()
    comm.all_reduce(x)
    return tried, x


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_argument_is_refused_and_the_communicator_stays_usable(name: str) -> None:
    call, (method, *fragments) = INVALID[name]
    for rank, (tried, x) in enumerate(rt.run_local(2, try_wrong_call_then_right_one, call)):
        assert_error(tried.error, rt.InvalidArgument, f"rank {rank}, {method}: ", *fragments, USABLE)
        assert isinstance(tried.error, ValueError)
        assert (x == 2).all()


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda torch: torch.ones(8, device="meta"), ["x ", "on meta", "CPU"]),
        (
            lambda torch: torch.ones(8, dtype=torch.complex64),
            ["x ", "complex64", "there are float64, float32, "],
        ),
        (lambda torch: torch.ones(8)[::2], ["x ", "contiguous"]),
    ],
    ids=["device", "dtype", "layout"],
)
def test_a_tensor_of_another_device_type_or_layout_is_refused(
    make: Callable[[Any], Any], texts: list[str]
) -> None:
    x = make(pytest.importorskip("torch"))
    [(tried, _)] = rt.run_local(1, try_wrong_call_then_right_one, lambda comm: comm.all_reduce(x))
    assert_error(tried.error, rt.InvalidArgument, "rank 0, all_reduce: ", *texts, USABLE)


class OnAnotherDevice:
    """What an array of another library on a GPU looks like."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("the memory of a GPU was asked for")


def test_an_array_of_another_device_is_refused() -> None:
    [(tried, _)] = rt.run_local(
        1, try_wrong_call_then_right_one, lambda comm: comm.all_reduce(OnAnotherDevice())
    )
    assert_error(tried.error, rt.InvalidArgument, "rank 0, all_reduce: x ", "CPU", USABLE)


@pytest.mark.parametrize("world", [0, -1])
def test_a_world_needs_a_rank(world: int) -> None:
    with pytest.raises(
        rt.InvalidArgument, match=f"the world size must be an integer of 1 or more, not {world}"
    ):
        rt.run_local(world, lambda comm: comm.rank)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_must_be_a_time(seconds: float) -> None:
    with pytest.raises(
        rt.InvalidArgument, match=rf"timeout={seconds} is no timeout: it must be a number of seconds above 0"
    ):
        rt.run_local(1, lambda comm: comm.rank, timeout=seconds)


def test_a_transport_must_be_one_of_the_catalogue() -> None:
    with pytest.raises(rt.InvalidArgument, match=r"'pigeon'.*shm.*threads"):
        rt.init(transport="pigeon")


CLOSED: dict[str, Call] = {
    "all_reduce": lambda comm: comm.all_reduce(ones()),
    "reduce": lambda comm: comm.reduce(ones()),
    "reduce_scatter": lambda comm: comm.reduce_scatter(ones(1), ones(2)),
    "broadcast": lambda comm: comm.broadcast(ones()),
    "all_gather": lambda comm: comm.all_gather(ones(2), ones(1)),
    "all_to_all": lambda comm: comm.all_to_all(ones(2), LONG[:2]),
    "gather": lambda comm: comm.gather(ones(2), ones(1)),
    "scatter": lambda comm: comm.scatter(ones(1), ones(2)),
    "barrier": lambda comm: comm.barrier(),
    "send": lambda comm: comm.send(ones(), 1 - comm.rank),
    "recv": lambda comm: comm.recv(ones(), 1 - comm.rank),
    "abort": lambda comm: comm.abort("for no reason"),
}


def use_after_close(comm: rt.Communicator) -> dict[str, Attempt]:
    comm.close()
    comm.close()  # again: nothing happens
    return {name: attempt(lambda call=call: call(comm)) for name, call in CLOSED.items()}  # type: ignore[misc]


@everywhere
def test_a_closed_communicator_says_so(transport: str) -> None:
    for rank, tried in enumerate(run_everywhere(transport, 2, use_after_close)):
        for name, one in tried.items():
            assert_error(one.error, rt.InvalidArgument, f"rank {rank}, {name}: this communicator is closed")


# The environment and the rendezvous


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"RANK": "0"}, "RANK is set but WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set but RANK is not"),
        ({"OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_RANK is set but OMPI_COMM_WORLD_SIZE is not"),
        ({"PMI_SIZE": "2"}, "PMI_SIZE is set but PMI_RANK is not"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, "SLURM_PROCID is set but SLURM_NTASKS is not"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is no rank where WORLD_SIZE=2: it must be 0 to 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0 is no world size: it must be 1 or more"),
        ({"RANK": "zero", "WORLD_SIZE": "2"}, "RANK='zero' is no number"),
        (
            {"RINGTREE_TIMEOUT": "soon"},
            "RINGTREE_TIMEOUT='soon' is no timeout: it must be a number of seconds",
        ),
        (
            {"RINGTREE_ALGORITHM": "butterfly"},
            "RINGTREE_ALGORITHM='butterfly': there is no algorithm 'butterfly'",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "RINGTREE_RENDEZVOUS": "tcp://here"},
            "rendezvous 'tcp://here' is no address",
        ),
    ],
)
def test_a_half_set_or_wrong_environment_names_the_variable(
    environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("RANK", "WORLD_SIZE", "OMPI_", "PMI", "SLURM_", "MASTER_", "RINGTREE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(rt.InvalidArgument, match=re.escape(text)):
        rt.init()


def test_a_rank_that_does_not_come_to_the_rendezvous_is_named() -> None:
    outcomes = run_processes(3, world_size, present=[0, 2], options={"timeout": 0.5})
    for rank, outcome in zip((0, 2), outcomes, strict=True):
        assert_error(outcome.error, rt.Timeout, f"rank {rank}, init: rank 1 ", "within 0.5 s", ranks=(1,))


def join_with(rank_one: dict[str, str], transports: Sequence[str]) -> int:
    if os.environ["RANK"] == "1":
        os.environ.update(rank_one)
    with rt.init(timeout=0.5, transport=transports[int(os.environ["RANK"])]) as comm:
        return comm.world_size


def test_ranks_that_were_given_different_transports_are_told() -> None:
    outcomes = run_processes(2, join_with, {}, ["shm", "threads"], joined=False)
    for outcome in outcomes:
        assert_error(
            outcome.error,
            rt.TransportError,
            "rank 0 and rank 1 use different transports ('shm' and 'threads')",
        )
        assert isinstance(outcome.error, OSError)
        assert outcome.error.ranks == (0, 1)


def test_ranks_that_believe_in_different_world_sizes_are_told() -> None:
    zero, one = run_processes(2, join_with, {"WORLD_SIZE": "3"}, ["shm", "shm"], joined=False)
    assert_error(
        one.error, rt.Timeout, "rank 1, init: rank", "of 3 did not come to the rendezvous within 0.5 s"
    )
    assert 2 in one.error.ranks
    # Whether rank 0 still finds rank 1 when it has given up is a matter of time.
    assert_error(
        zero.error, rt.Timeout, "rank 0, init: rank 1 of 2 did not come to the rendezvous", ranks=(1,)
    )


# /dev/shm. A mount namespace of its own lets a test have one of any size.


def describe_outcomes(function: Callable[..., Any]) -> None:
    """Runs in the program that `with_small_shm` starts: a line for each rank, then what is left."""
    for outcome in run_processes(2, function):
        print(f"{type(outcome.error).__name__}: {outcome.error}" if outcome.error else outcome.value)
    print(sorted(name for name in os.listdir("/dev/shm") if name != "ballast"))


def with_small_shm(function: Callable[..., Any], kib: int, ballast_kib: int = 0) -> list[str]:
    """What `describe_outcomes` prints where /dev/shm has `kib` KiB, of which `ballast_kib` are taken."""
    tests = Path(__file__).parents[1]
    program = (
        f"import sys; sys.path[:0] = ['{tests}', '{tests / 'python'}']; "
        f"import test_failures as t; t.describe_outcomes(t.{function.__name__})"
    )
    script = f"mount -t tmpfs -o size={kib}k tmpfs /dev/shm || exit 77; "
    script += f'head -c {ballast_kib}K /dev/zero > /dev/shm/ballast; exec {sys.executable} -c "{program}"'
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) to make a small /dev/shm with")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"a mount namespace is not permitted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def world_size(comm: rt.Communicator) -> int:
    return comm.world_size


@pytest.mark.parametrize(("kib", "ballast_kib"), [(64, 0), (65_536, 65_000)], ids=["tiny", "full"])
def test_a_shm_too_small_for_the_communicator_is_told_to_all_ranks(kib: int, ballast_kib: int) -> None:
    *ranks, left = with_small_shm(world_size, kib, ballast_kib)
    assert len(ranks) == 2
    for rank, line in enumerate(ranks):
        assert re.fullmatch(
            rf"TransportError: rank {rank}, init: on rank 0 the communicator needs \d+ MiB in /dev/shm, which has 1 MiB "
            r"free \(No space left on device\): free some or mount it larger \(docker run --shm-size\)",
            line,
        )
    assert left == "[]"


def split_without_space(comm: rt.Communicator) -> str:
    """What split() says; the sum that the communicator still makes after it."""
    tried = attempt(lambda: comm.split(0))
    x = ones()
    comm.all_reduce(x)
    return f"{type(tried.error).__name__}: {tried.error} Then: {x[0]}"


def test_a_split_without_space_fails_on_all_ranks_and_leaves_the_parent_usable() -> None:
    needed = re.search(r"needs (\d+) MiB", with_small_shm(world_size, kib=64)[0])
    assert needed is not None
    *ranks, left = with_small_shm(split_without_space, kib=int(needed[1]) * 1024 * 3 // 2)
    assert len(ranks) == 2
    for rank, line in enumerate(ranks):
        assert line.startswith(
            f"TransportError: rank {rank}, init: on rank 0 the communicator needs {needed[1]} MiB in"
        )
        assert line.endswith("Then: 2.0")
    assert left == "[]"


# Ctrl-C


def wait_in_all_reduce(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(), algorithm="ring")


def wait_in_large_all_reduce(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(3_000_000), algorithm="two_shot")


def wait_in_barrier(comm: rt.Communicator) -> None:
    comm.barrier(algorithm="dissemination")


def wait_in_queue(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(), algorithm="ring", async_op=True)
    comm.all_reduce(ones(), algorithm="ring")


def wait_in_work(comm: rt.Communicator) -> None:
    work = comm.all_reduce(ones(), algorithm="ring", async_op=True)
    assert work is not None
    work.wait()


def wait_in_recv(comm: rt.Communicator) -> None:
    comm.recv(ones(), 2)


def wait_in_recv_work(comm: rt.Communicator) -> None:
    work = comm.recv(ones(), 2, async_op=True)
    assert work is not None
    work.wait()


def wait_in_send(comm: rt.Communicator) -> None:
    comm.send(ones(3_000_000), 2)


def wait_in_split(comm: rt.Communicator) -> None:
    comm.split(0)


def wait_in_close(comm: rt.Communicator) -> None:
    comm.all_reduce(ones(), algorithm="ring", async_op=True)
    comm.close()


# What rank 0 is said to have done; a wait for a Work, which may be repeated, ends the call only with its block.
INTERRUPTED: dict[Callable[[rt.Communicator], None], str] = {
    wait_in_all_reduce: "was interrupted (Ctrl-C) in all_reduce #2 (float32 x 8, sum, ring).",
    wait_in_large_all_reduce: "was interrupted (Ctrl-C) in all_reduce #2 (float32 x 3000000, sum, two_shot).",
    wait_in_barrier: "was interrupted (Ctrl-C) in barrier #2 (dissemination).",
    wait_in_queue: "aborted the communicator: interrupted (Ctrl-C).",
    wait_in_work: "aborted the communicator: KeyboardInterrupt.",
    wait_in_recv: "was interrupted (Ctrl-C) in recv #1 from rank 2 (float32 x 8).",
    wait_in_recv_work: "aborted the communicator: KeyboardInterrupt.",
    wait_in_send: "was interrupted (Ctrl-C) in send #1 to rank 2 (float32 x 3000000).",
    wait_in_split: "was interrupted (Ctrl-C) in all_gather #2 (int64 x 3, ",
    wait_in_close: "aborted the communicator: ",
}


def wait_until_interrupted(comm: rt.Communicator, name: str) -> Attempt:
    """Ranks 0 and 1 wait for rank 2, which comes too late. Includes closing the communicator."""
    comm.barrier()
    if comm.rank == 2:
        listen()
    else:
        tell("waiting")

    def wait() -> None:
        with comm:
            comm.barrier() if comm.rank == 2 else globals()[name](comm)

    return attempt(wait)


def sleep_when_blocked(pid: int, naps: int = 10) -> None:
    """Returns once a process that has nothing left to do but wait has slept and looked around a few times."""

    def naps_so_far() -> int:
        statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
        return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in statuses)

    begin, deadline = naps_so_far(), time.monotonic() + 30
    while naps_so_far() < begin + naps:
        assert time.monotonic() < deadline, f"process {pid} does not wait"
        time.sleep(0.005)


@pytest.mark.parametrize("wait", INTERRUPTED, ids=lambda wait: wait.__name__)
def test_ctrl_c_ends_the_wait_and_tells_the_peers_who_was_interrupted(wait: Callable[..., None]) -> None:
    with Processes(3, wait_until_interrupted, wait.__name__) as ranks:
        for rank in (0, 1):
            assert ranks.hear(rank) == "waiting"
            sleep_when_blocked(ranks.pids[rank])
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        # Rank 0 is gone before rank 2 comes: it must not need that.
        assert ranks.wait_for(0, WITHIN_SECONDS * 5)
        ranks.say(2)
        interrupted, *peers = [outcome.result() for outcome in ranks.outcomes()]
    assert type(interrupted.error) is KeyboardInterrupt
    assert interrupted.ended - pressed < WITHIN_SECONDS
    for rank, tried in enumerate(peers, start=1):
        assert_error(
            tried.error, rt.Aborted, f"rank {rank}, ", f"rank 0 {INTERRUPTED[wait]}", DEAD, ranks=(0,)
        )
    assert peers[0].ended - pressed < WITHIN_SECONDS


def interrupt_run_local() -> tuple[Attempt, list[Attempt]]:
    """Three threads of this process wait for one another's messages; nobody sends any."""
    tried: list[Attempt] = [Attempt(None, 0, 0)] * 3

    def wait(comm: rt.Communicator) -> None:
        comm.barrier()
        tried[comm.rank] = attempt(lambda: comm.recv(ones(), (comm.rank + 1) % 3))

    tell("waiting")
    return attempt(lambda: rt.run_local(3, wait)), tried


def test_ctrl_c_ends_run_local_and_its_ranks() -> None:
    with Processes(1, interrupt_run_local, joined=False) as ranks:
        assert ranks.hear(0) == "waiting"
        sleep_when_blocked(ranks.pids[0], naps=100)
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        [outcome] = ranks.outcomes()
    main, tried = outcome.result()
    assert type(main.error) is KeyboardInterrupt
    assert main.ended - pressed < WITHIN_SECONDS
    for rank, one in enumerate(tried):
        call = f"rank {rank}, recv #1 from rank {(rank + 1) % 3} (float32 x 8): rank "
        assert_error(one.error, rt.Aborted, call, " aborted the communicator: KeyboardInterrupt", DEAD)


def interrupt_rendezvous() -> Attempt:
    tell("waiting")
    return attempt(rt.init)


def test_ctrl_c_ends_the_rendezvous() -> None:
    with Processes(2, interrupt_rendezvous, joined=False, present=[0]) as ranks:
        assert ranks.hear(0) == "waiting"
        sleep_when_blocked(ranks.pids[0])
        pressed = time.monotonic()
        os.kill(ranks.pids[0], signal.SIGINT)
        [outcome] = ranks.outcomes()
    assert type(outcome.result().error) is KeyboardInterrupt
    assert outcome.result().ended - pressed < WITHIN_SECONDS


def abort_from_another_thread(comm: rt.Communicator) -> Attempt:
    comm.barrier()
    if comm.rank == 0:
        threading.Thread(target=comm.abort, args=("the loss is not a number",)).start()
    return attempt(lambda: comm.recv(ones(), (comm.rank + 1) % comm.world_size))


@everywhere
def test_an_abort_ends_every_rank_with_its_reason(transport: str) -> None:
    for rank, tried in enumerate(run_everywhere(transport, 3, abort_from_another_thread)):
        story = "rank 0 aborted the communicator: the loss is not a number."
        assert_error(tried.error, rt.Aborted, f"rank {rank}, recv", f"{story} {DEAD}", ranks=(0,))
        assert tried.seconds < WITHIN_SECONDS


def raise_on_rank_one(comm: rt.Communicator, seen: list[BaseException | None]) -> None:
    comm.barrier()
    if comm.rank == 1:
        raise LookupError("no such sample")
    seen[comm.rank] = attempt(lambda: comm.all_reduce(ones())).error


def test_what_a_rank_of_run_local_raises_ends_the_others_and_is_raised() -> None:
    seen: list[BaseException | None] = [None] * 3
    with pytest.raises(LookupError, match="no such sample") as raised:
        rt.run_local(3, raise_on_rank_one, seen)
    assert "rank 1" in "".join(raised.value.__notes__)
    for rank in (0, 2):
        assert_error(
            seen[rank], rt.Aborted, f"rank {rank}, all_reduce #2", "rank 1 ", "no such sample", ranks=(1,)
        )


# fork


def use_after_fork(comm: rt.Communicator) -> tuple[dict[str, str], Any]:
    """What a forked child of each rank is told, and what the rank itself gets after that."""
    comm.all_reduce(ones(), async_op=True)  # starts the thread that a child does not have
    comm.barrier()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            texts = [attempt(lambda call=call: call(comm)).error for call in CLOSED.values()]  # type: ignore[misc]
            comm.close()
            os.write(writing, "\n".join(f"{type(text).__name__}: {text}" for text in texts).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().split("\n")
    os.waitpid(child, 0)
    x = ones()
    comm.all_reduce(x)
    return dict(zip(CLOSED, lines, strict=True)), x


def test_a_forked_child_is_refused_and_its_parent_goes_on() -> None:
    for rank, outcome in enumerate(run_processes(2, use_after_fork)):
        told, x = outcome.result()
        for name, line in told.items():
            assert line.startswith(
                f"InvalidArgument: rank {rank}, {name}: this communicator belongs to the process that forked this one; "
                "create a new one in the child"
            )
        assert (x == 2).all()


FORK_AND_EXIT = """
import os, sys
import numpy as np
import ringtree as rt

comm = rt.init()
comm.all_reduce(np.ones(8), async_op=True).wait()
child = os.fork()
if child == 0:
    sys.exit(0)  # with all exit handlers
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
comm.all_reduce(np.ones(8))
"""


def test_a_forked_child_exits_normally() -> None:
    done = subprocess.run([sys.executable, "-c", FORK_AND_EXIT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


# Ranks that die, leave, or only take long


def run_until_someone_is_gone(comm: rt.Communicator) -> Attempt:
    def run() -> None:
        for number in range(1_000_000):
            comm.all_reduce(ones(), algorithm=("ring", "one_shot", "double_tree")[number % 3])
            if number == 100 and comm.rank == 1:
                tell("in the middle")

    return attempt(run)


@pytest.mark.parametrize("world", [2, 4])
def test_a_killed_rank_is_named_on_every_survivor(world: int) -> None:
    with Processes(world, run_until_someone_is_gone) as ranks:
        assert ranks.hear(1) == "in the middle"
        killed = time.monotonic()
        os.kill(ranks.pids[1], signal.SIGKILL)
        outcomes = ranks.outcomes()
    assert outcomes.pop(1).exitcode == -signal.SIGKILL
    for rank, outcome in zip((0, *range(2, world)), outcomes, strict=True):
        tried = outcome.result()
        assert_error(tried.error, rt.RankFailure, f"rank {rank}, all_reduce #", DEAD, ranks=(1,))
        assert re.search(
            r"rank 1 died \(the process has ended\) while all_reduce #\d+ \(.*\) needs it", str(tried.error)
        )
        assert isinstance(tried.error, ConnectionError)
        assert tried.ended - killed < WITHIN_SECONDS


def leave_early(comm: rt.Communicator, how: str) -> Attempt | None:
    comm.barrier()
    if comm.rank == 1:
        if how == "exits":
            os._exit(3)
        if how == "raises":
            raise LookupError("no such sample")
        return None
    return attempt(
        lambda: comm.recv(ones(), 1) if how == "is awaited" else comm.all_reduce(ones(), algorithm="ring")
    )


@pytest.mark.parametrize("how", ["leaves", "exits", "is awaited"])
def test_a_rank_that_leaves_early_is_named(how: str) -> None:
    outcomes = run_processes(3, leave_early, how)
    story = (
        "rank 1 died (the process has ended) while"
        if how == "exits"
        else "rank 1 closed the communicator while"
    )
    for rank in (0, 2):
        tried = outcomes[rank].result()
        call = (
            "recv #1 from rank 1 (float32 x 8)"
            if how == "is awaited"
            else "all_reduce #2 (float32 x 8, sum, ring)"
        )
        assert_error(
            tried.error, rt.RankFailure, f"rank {rank}, {call}: {story}", "needs it", DEAD, ranks=(1,)
        )
        assert tried.seconds < WITHIN_SECONDS
    assert outcomes[1].exitcode == (3 if how == "exits" else None)


def test_an_exception_that_ends_a_rank_is_told_to_its_peers() -> None:
    outcomes = run_processes(3, leave_early, "raises")
    assert type(outcomes[1].error) is LookupError
    for rank in (0, 2):
        tried = outcomes[rank].result()
        call = f"rank {rank}, all_reduce #2 (float32 x 8, sum, ring): "
        assert_error(
            tried.error, rt.Aborted, call, "rank 1 aborted the communicator: LookupError: no such sample"
        )
        assert tried.seconds < WITHIN_SECONDS


def leave_after_last_message(comm: rt.Communicator) -> Any:
    """Rank 1 has done all it must, and is gone before rank 0 looks for what it sent."""
    x = np.zeros(8, np.float32)
    if comm.rank == 1:
        comm.send(ones(), 0)
        return None
    listen()
    comm.recv(x, 1)
    return x


def test_a_rank_that_leaves_after_its_last_message_is_not_missed() -> None:
    with Processes(2, leave_after_last_message) as ranks:
        assert ranks.wait_for(1, 30)
        ranks.say(0)
        assert (ranks.outcomes()[0].result() == 1).all()


def hold_the_interpreter(seconds: float) -> None:
    """A call into C that does not let other threads of this interpreter run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def compute_for_long(comm: rt.Communicator) -> Any:
    if comm.rank == 1:
        hold_the_interpreter(1.0)
    x = ones()
    comm.all_reduce(x)
    return x


@everywhere
def test_a_rank_that_computes_for_long_is_slow_and_not_dead(transport: str) -> None:
    for x in run_everywhere(transport, 3, compute_for_long):
        assert (x == 3).all()


def compute_while_a_call_is_under_way(comm: rt.Communicator) -> float:
    """When this rank was done: rank 0 with the call, rank 1 with what it computes meanwhile."""
    x = ones()
    if comm.rank == 0:
        listen()
        comm.all_reduce(x, algorithm="ring")
        return time.monotonic()
    work = comm.all_reduce(x, algorithm="ring", async_op=True)
    tell("computing")
    hold_the_interpreter(2.0)
    done = time.monotonic()
    assert work is not None
    work.wait()
    return done


def test_a_call_goes_on_while_its_rank_computes() -> None:
    with Processes(2, compute_while_a_call_is_under_way) as ranks:
        assert ranks.hear(1) == "computing"
        sleep_when_blocked(ranks.pids[1])
        ranks.say(0)
        done, computed = [outcome.result() for outcome in ranks.outcomes()]
    assert done < computed
