"""Calls that are captured once and replayed, on what their arrays hold then, against NumPy in float64.

Inputs are fresh and results poisoned before each replay. Ranks are threads, or processes, which make each call
twice before they capture it: the first makes its arrays known, the second maps them (docs/gpu.md, "Graphs
between processes").
"""

from collections.abc import Callable

import numpy as np
import pytest
import ringtree as rt
from contract.cases import Case, Result, has_root
from contract.reference import Array
from gpu import memory
from gpu.graphs import Program, check_turns, over, recorded
from gpu.memory import empty, on_gpu
from gpu.test_collectives import ALL, ENTRIES, one_of_each
from gpu.worlds import PROTOCOLS, WORLDS, few, in_threads_and_processes, ordered, run_everywhere, run_threads
from hypothesis import given
from hypothesis import strategies as st
from ringtree.buffers import STREAM_OF_THREAD

TURNS = 3


def replay(comm: rt.Communicator, sequence: list[Case], before: int) -> list[list[Result]]:
    """By turn and case, what this rank has got. Makes the calls `before` times before it captures them."""
    program, between = Program(comm, sequence), memory.ones()
    for call in program.calls * before:
        call()
    graph = recorded(comm, program.calls)
    results = []
    for turn in range(TURNS):
        program.fill(turn)
        graph.replay(STREAM_OF_THREAD)
        results.append(program.look())
        between[:] = 1
        comm.all_reduce(between)  # takes its turn between two replays
        assert (np.asarray(between) == comm.world_size).all()
    over(comm, STREAM_OF_THREAD)
    return results


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("collective", [name for name in rt.COLLECTIVES if name != "barrier"])
@few
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)))
def test_every_algorithm_runs_at_each_replay(
    collective: str, protocol: str, data: st.DataObject, world: int
) -> None:
    sequence = one_of_each(data, world, [entry for entry in ALL if entry[0] == collective])
    with ordered(protocol):
        check_turns(sequence, run_threads(world, replay, sequence, 0))


@pytest.mark.parametrize("world", [2, 3])
@few
@given(data=st.data())
def test_every_algorithm_runs_at_each_replay_between_processes(data: st.DataObject, world: int) -> None:
    sequence = one_of_each(data, world, ALL)
    check_turns(sequence, run_everywhere("processes", world, replay, sequence, 2))


# As much as peers map, and as "auto" sends by way of the arrays themselves.
MAPPED = (64 << 10) // 4 + 13
ON_ARRAYS = [collective for collective, algorithm in ENTRIES if algorithm == rt.ZERO_COPY]


@pytest.mark.parametrize(("where", "before"), [("threads", 0), ("processes", 1), ("processes", 2)])
def test_arrays_that_peers_map_are_used_at_each_replay(where: str, before: int) -> None:
    world = 3
    sequence = [
        Case(collective, rt.ZERO_COPY, "float32", MAPPED, root=world - 1 if has_root(collective) else 0)
        for collective in ON_ARRAYS
    ]
    check_turns(sequence, run_everywhere(where, world, replay, sequence, before))


# From nothing to more than all slots of all channels hold.
SIZES = (0, 41, 4097, 600_001)


def exchange(comm: rt.Communicator) -> None:
    """Messages in a circle and from rank 0 to the last one, and a collective behind them, in every size."""
    for count in SIZES:
        exchange_so_many(comm, count)


def exchange_so_many(comm: rt.Communicator, count: int) -> None:
    rank, world = comm.rank, comm.world_size
    following, earlier, last = (rank + 1) % world, (rank - 1) % world, world - 1

    def message(sender: int, turn: int) -> Array:
        return np.random.default_rng([sender, turn]).integers(0, 256, count, np.uint8)

    mine, theirs, first, total = (empty(count, "uint8") for _ in range(4))
    calls: list[Callable[[], object]] = [lambda: comm.sendrecv(mine, theirs, to=following, source=earlier)]
    if rank == 0:
        calls.append(lambda: comm.send(mine, last))
    if rank == last:
        calls.append(lambda: comm.recv(first, 0))
    calls.append(lambda: comm.all_reduce(mine, out=total))
    graph = recorded(comm, calls)
    for turn in range(TURNS):
        for array in (theirs, first, total):
            memory.poison(array)
        mine[:] = message(rank, turn)
        graph.replay(STREAM_OF_THREAD)
        assert (np.asarray(theirs) == message(earlier, turn)).all()
        assert rank != last or (np.asarray(first) == message(0, turn)).all()
        expected = np.sum([message(peer, turn) for peer in range(world)], 0, np.uint8)
        assert (np.asarray(total) == expected).all()
    over(comm, STREAM_OF_THREAD)


@in_threads_and_processes
@pytest.mark.parametrize("world", [2, 3])
def test_messages_are_sent_at_each_replay(where: str, world: int) -> None:
    run_everywhere(where, world, exchange)


def meet_in_between(comm: rt.Communicator) -> None:
    x = on_gpu(np.full(100, comm.rank, np.int32))
    graph = recorded(comm, [lambda: comm.all_reduce(x), comm.barrier, lambda: comm.all_reduce(x)])
    for _ in range(TURNS):
        x[:] = comm.rank
        graph.replay(STREAM_OF_THREAD)
        assert (np.asarray(x) == comm.world_size * sum(range(comm.world_size))).all()
    over(comm, STREAM_OF_THREAD)


@in_threads_and_processes
def test_a_barrier_meets_on_the_host_while_others_are_captured(where: str) -> None:
    run_everywhere(where, 2, meet_in_between)


REPLAYS, LOOK = 10_000, 100  # the queue of a stream holds a thousand, and a full one holds up all threads


def count_replays(comm: rt.Communicator, starts: list[Array]) -> None:
    """A pair of sums that has no period worth the name, so that a replay too few or too many shows.

    From (a, b) a replay makes (a + b, a + 2b), modulo 2^64: every other pair of Fibonacci's numbers.
    """
    x = on_gpu(starts[comm.rank])
    graph = recorded(comm, [lambda: comm.reduce(x, 0), lambda: comm.reduce(x, 1)])
    a, b = (start.copy() for start in starts)
    for turn in range(1, REPLAYS + 1):
        graph.replay(STREAM_OF_THREAD)
        a += b
        b += a
        if turn % LOOK == 0:
            assert (np.asarray(x) == (a, b)[comm.rank]).all(), f"after {turn} replays"
    over(comm, STREAM_OF_THREAD)


def test_ten_thousand_replays_are_as_many_calls() -> None:
    limits = np.iinfo(np.int64)
    generator = np.random.default_rng()
    starts = [generator.integers(limits.min, limits.max, 33, endpoint=True) for _ in range(2)]
    run_threads(2, count_replays, starts)
