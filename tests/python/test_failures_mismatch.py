"""Ranks that make different calls are told so within a second, each of them, with both calls."""

import re
import threading

import pytest
import ringtree as rt
from contract.attempts import (
    DEAD,
    WITHIN_SECONDS,
    Attempt,
    Difference,
    assert_error,
    attempt,
    ones,
)
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

everywhere = pytest.mark.parametrize("transport", TRANSPORTS)


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
    """Call what differs, then what all call, where those hear of it whose part was done; then once more."""
    comm.barrier()
    difference = DIFFERENCES[name]
    call = difference.last if comm.rank == comm.world_size - 1 else difference.most
    return attempt(lambda: (call(comm), comm.barrier())), attempt(lambda: comm.all_reduce(ones()))


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
            f"called {difference.most_described}",
            f"called {difference.last_described.format(last=last)}",
            difference.remark,
            DEAD,
        )
        found_in = [own.format(last=last)] + (["barrier #3 ("] if "root" in own else [])
        assert any(str(first.error).startswith(f"rank {rank}, {call}") for call in found_in)
        one, other = first.error.ranks
        assert one < other == last
        assert f"rank {one} called" in str(first.error)
        assert f"rank {other} called" in str(first.error)
        assert first.seconds < WITHIN_SECONDS
        assert_error(again.error, rt.Mismatch, f"rank {rank}, all_reduce #", DEAD, ranks=(one, other))


def scatter_from_oneself(comm: rt.Communicator, times: int) -> Attempt:
    """Nothing here waits for what a peer sends."""

    def scatter() -> None:
        for _ in range(times):
            comm.scatter(ones(), ones(8 * comm.world_size), comm.rank)

    return attempt(scatter)


def test_no_rank_misses_a_mismatch_that_all_find_at_once() -> None:
    for _ in range(300):
        for tried in rt.run_local(2, scatter_from_oneself, 8):
            assert_error(tried.error, rt.Mismatch, "called scatter #1 (float32 x 8, root 0, ", ranks=(0, 1))


def close_behind_a_mismatch(comm: rt.Communicator, meeting: threading.Barrier) -> Attempt:
    tried = scatter_from_oneself(comm, 1)
    assert tried.error is None
    meeting.wait()
    return attempt(comm.close)


def test_a_mismatch_in_the_last_calls_shows_when_the_communicator_is_closed() -> None:
    for rank, tried in enumerate(rt.run_local(2, close_behind_a_mismatch, threading.Barrier(2))):
        assert_error(
            tried.error, rt.Mismatch, f"rank {rank}, close: ", "scatter #1 (float32 x 8", ranks=(0, 1)
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
        "in all_to_all #2 (float32 in uneven shares, pairwise) rank 0 sent a piece of 20 bytes where rank 2 "
        f"expects 24: the counts they gave differ. {DEAD}"
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
