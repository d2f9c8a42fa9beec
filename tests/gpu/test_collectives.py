"""Every collective by every algorithm that has a kernel, on threads of one process, against NumPy in float64.

It goes in slots, packets or lines, as one of them is ordered, or by size, which here is nearly always lines.
Inputs are random and fresh in each run, results lie on poisoned memory; see contract/cases.py for what each rank
looks at. `pytest tests/gpu --hypothesis-profile=thorough` takes many more examples.
"""

import pytest
import ringtree as rt
from contract.cases import REDUCTIONS, Case, check, forms_of, has_root, ops_of, run_cases
from contract.reference import NUMPY_TYPES, supported
from gpu import memory
from gpu.worlds import (
    BY_SIZE,
    ORDERS,
    PROTOCOLS,
    WORLDS,
    few,
    in_threads_and_processes,
    ordered,
    run_everywhere,
    run_threads,
)
from hypothesis import given
from hypothesis import strategies as st

NO_KERNEL = {("all_gather", "recursive_doubling"), ("reduce_scatter", "recursive_halving")}
ENTRIES = [
    (collective, algorithm)
    for collective in rt.COLLECTIVES
    if collective != "barrier"  # has no arrays, so ranks meet on the host
    for algorithm in (*rt.algorithms(collective), rt.ZERO_COPY, "auto")
    if (collective, algorithm) not in NO_KERNEL
]
UNEVEN = ("all_gather", "reduce_scatter", "all_to_all")
# With uneven shares, too.
ALL = [(*entry, False) for entry in ENTRIES] + [(collective, "auto", True) for collective in UNEVEN]
counts = st.one_of(st.integers(0, 70), st.integers(0, 20_000))
protocols = st.sampled_from(list(ORDERS))
NAMES = {"slots": "slots", "packets": "packets of all sizes", "lines": "lines of all sizes"}


@st.composite
def cases(draw: st.DrawFn, collective: str, algorithm: str, world: int, uneven: bool = False) -> Case:
    name = f"{collective}_v" if uneven else collective
    op = draw(st.sampled_from(ops_of(name)))
    return Case(
        name,
        algorithm,
        draw(st.sampled_from([dtype for dtype in rt.DTYPES if supported(op, dtype)])),
        0 if uneven else draw(counts),
        op,
        draw(st.sampled_from(forms_of(name))),
        draw(st.integers(0, world - 1)) if has_root(name) else 0,
        tuple(draw(st.lists(counts, min_size=world, max_size=world))) if uneven else (),
        rounds=name in REDUCTIONS,
        seed=draw(st.integers(0, 2**32)),
    )


def one_of_each(data: st.DataObject, world: int, entries: list[tuple[str, str, bool]]) -> list[Case]:
    return [
        data.draw(cases(collective, algorithm, world, uneven)) for collective, algorithm, uneven in entries
    ]


def run_and_check(world: int, sequence: list[Case], protocol: str = BY_SIZE) -> None:
    with ordered(protocol):
        by_rank = run_threads(world, run_cases, sequence, memory.for_case)
    for case, *results in zip(sequence, *by_rank, strict=True):
        check(case, results)


@pytest.mark.parametrize(("collective", "algorithm"), ENTRIES)
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)), protocol=protocols)
def test_every_algorithm_agrees_with_numpy(
    collective: str, algorithm: str, data: st.DataObject, world: int, protocol: str
) -> None:
    sequence = data.draw(st.lists(cases(collective, algorithm, world), min_size=3, max_size=5))
    run_and_check(world, sequence, protocol)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@few
@given(data=st.data())
def test_every_protocol_is_met_in_every_world(data: st.DataObject, protocol: str, world: int) -> None:
    """By one half of the algorithms, and by the other one in the next world."""
    run_and_check(world, one_of_each(data, world, ALL[world % 2 :: 2]), protocol)


@pytest.mark.parametrize("world", WORLDS)
@given(data=st.data(), protocol=protocols)
def test_any_sequence_of_calls_agrees_with_numpy(data: st.DataObject, world: int, protocol: str) -> None:
    any_case = st.one_of(
        [cases(collective, "auto", world) for collective in rt.COLLECTIVES if collective != "barrier"]
    )
    run_and_check(world, data.draw(st.lists(any_case, min_size=3, max_size=8)), protocol)


@pytest.mark.parametrize("collective", UNEVEN)
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)), protocol=protocols)
def test_uneven_shares_agree_with_numpy(
    collective: str, data: st.DataObject, world: int, protocol: str
) -> None:
    sequence = data.draw(st.lists(cases(collective, "auto", world, True), min_size=2, max_size=4))
    run_and_check(world, sequence, protocol)


def name_the_protocol(comm: rt.Communicator) -> str:
    comm.all_reduce(memory.ones())
    return comm._core.protocol()


@in_threads_and_processes
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_that_is_ordered_is_taken(where: str, protocol: str) -> None:
    with ordered(protocol):
        assert run_everywhere(where, 2, name_the_protocol) == [NAMES[protocol]] * 2


# More than the slots of a lane or a window hold together, in all channels.
HUGE_BYTES = 8 << 20


@pytest.mark.parametrize(("collective", "algorithm"), ENTRIES)
def test_buffers_that_go_round_the_slots_several_times(collective: str, algorithm: str) -> None:
    world = 3
    shared = collective not in ("all_reduce", "reduce", "broadcast")
    count = HUGE_BYTES // NUMPY_TYPES["float32"].itemsize // (world if shared else 1) + 13
    root = world - 1 if has_root(collective) else 0
    run_and_check(world, [Case(collective, algorithm, "float32", count, root=root)])


@pytest.mark.parametrize(("collective", "algorithm"), sorted(NO_KERNEL))
def test_an_algorithm_without_a_kernel_is_refused(collective: str, algorithm: str) -> None:
    def ask(comm: rt.Communicator) -> str:
        x, out = memory.ones(comm.world_size), memory.ones(1)
        call = (out, x) if collective == "reduce_scatter" else (x, out)
        with pytest.raises(rt.InvalidArgument) as refused:
            getattr(comm, collective)(*call, algorithm=algorithm)
        comm.all_reduce(x)  # goes on
        return str(refused.value)

    for rank, text in enumerate(run_threads(2, ask)):
        assert text.startswith(
            f"rank {rank}, {collective}: the algorithm '{algorithm}' has no kernel for GPUs."
        )
        assert text.endswith("Nothing was sent and the communicator stays usable.")
