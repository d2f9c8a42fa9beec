"""Every collective by every algorithm that has a kernel, on threads of one process, against NumPy in float64.

Inputs are random and fresh in each run, results lie on poisoned memory; see contract/cases.py for what each rank
looks at. `pytest tests/gpu --hypothesis-profile=thorough` takes many more examples.
"""

import pytest
import ringtree as rt
from contract.cases import REDUCTIONS, Case, check, forms_of, has_root, ops_of, run_cases
from contract.reference import NUMPY_TYPES, supported
from gpu import memory
from gpu.worlds import WORLDS, run_threads
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
counts = st.one_of(st.integers(0, 70), st.integers(0, 20_000))


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


def run_and_check(world: int, sequence: list[Case]) -> None:
    by_rank = run_threads(world, run_cases, sequence, memory.for_case)
    for case, *results in zip(sequence, *by_rank, strict=True):
        check(case, results)


@pytest.mark.parametrize(("collective", "algorithm"), ENTRIES)
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)))
def test_every_algorithm_agrees_with_numpy(
    collective: str, algorithm: str, data: st.DataObject, world: int
) -> None:
    run_and_check(world, data.draw(st.lists(cases(collective, algorithm, world), min_size=3, max_size=5)))


@pytest.mark.parametrize("world", WORLDS)
@given(data=st.data())
def test_any_sequence_of_calls_agrees_with_numpy(data: st.DataObject, world: int) -> None:
    any_case = st.one_of(
        [cases(collective, "auto", world) for collective in rt.COLLECTIVES if collective != "barrier"]
    )
    run_and_check(world, data.draw(st.lists(any_case, min_size=3, max_size=8)))


@pytest.mark.parametrize("collective", UNEVEN)
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)))
def test_uneven_shares_agree_with_numpy(collective: str, data: st.DataObject, world: int) -> None:
    run_and_check(world, data.draw(st.lists(cases(collective, "auto", world, True), min_size=2, max_size=4)))


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
