"""Every algorithm over every transport in every small world, against NumPy.

Crossed in full: algorithm x transport x world size 1..8. In each of these, pairwise: type, op, size (0, 1,
odd, whole vectors, one past them), form (in place, apart, misaligned, async), root. Beside it, for some
worlds, buffers that go round the slots several times. The catalogues are read at collection: what is
registered is tested.
"""

from typing import Any

import pytest
import ringtree as rt
from contract.cases import Case, check, forms_of, has_root, ops_of, run_cases
from contract.meetings import arrivals_and_departures, exchange_messages
from contract.pairwise import pairwise
from contract.reference import NUMPY_TYPES, supported
from contract.worlds import WORLDS, run_everywhere
from ringtree._core import TRANSPORTS

SIZES = (0, 1, 2, 7, 63, 64, 1000, 4097)
UNEVEN = ("all_gather", "reduce_scatter", "all_to_all")

ENTRIES = [
    (c, algorithm)
    for c in rt.COLLECTIVES
    if c != "barrier"
    for algorithm in (*rt.algorithms(c), rt.ZERO_COPY, "auto")
]
everywhere = pytest.mark.parametrize("transport", TRANSPORTS)
every_world = pytest.mark.parametrize("world", WORLDS)
every_algorithm = pytest.mark.parametrize(("collective", "algorithm"), ENTRIES)


def cases_of(collective: str, algorithm: str, world: int) -> list[Case]:
    axes = {
        "dtype": rt.DTYPES,
        "op": ops_of(collective),
        "count": SIZES,
        "form": forms_of(collective),
        "root": sorted({0, world // 2, world - 1}) if has_root(collective) else [0],
    }

    def allowed(case: Any) -> bool:
        return "op" not in case or "dtype" not in case or supported(case["op"], case["dtype"])

    rows = pairwise(axes, allowed)
    return [Case(collective, algorithm, **row, seed=number) for number, row in enumerate(rows)]


@every_world
@everywhere
@every_algorithm
def test_every_algorithm_agrees_with_numpy(
    collective: str, algorithm: str, transport: str, world: int
) -> None:
    cases = cases_of(collective, algorithm, world)
    by_rank = run_everywhere(transport, world, run_cases, cases)
    for case, *results in zip(cases, *by_rank, strict=True):
        check(case, results)


# Twice as much for each rank as the slots of a lane or window hold together, and then a bit.
HUGE_BYTES = 4 << 20


@pytest.mark.parametrize("world", [2, 3, 7])
@everywhere
@every_algorithm
def test_buffers_that_go_round_the_slots_several_times(
    collective: str, algorithm: str, transport: str, world: int
) -> None:
    shared = collective not in (
        "all_reduce",
        "reduce",
        "broadcast",
    )  # then each rank has a share of the buffer
    cases = []
    for number, dtype in enumerate(("float32", "bfloat16")):
        count = HUGE_BYTES // NUMPY_TYPES[dtype].itemsize // (world if shared else 1) + 13
        form = forms_of(collective)[number % len(forms_of(collective))]
        root = world - 1 if has_root(collective) else 0
        cases.append(Case(collective, algorithm, dtype, count, form=form, root=root, seed=number))
    by_rank = run_everywhere(transport, world, run_cases, cases)
    for case, *results in zip(cases, *by_rank, strict=True):
        check(case, results)


def uneven_counts(world: int) -> list[tuple[int, ...]]:
    """Shares that differ: some empty, one with everything, some that need several slots."""
    return [
        tuple((rank * 37 + 5) % 11 for rank in range(world)),
        tuple(0 if rank % 2 else 129 for rank in range(world)),
        tuple(100_003 if rank == world - 1 else 0 for rank in range(world)),
        tuple(rank * 20_011 + 1 for rank in range(world)),
        (5,) * world,
        (0,) * world,
    ]


@every_world
@everywhere
@pytest.mark.parametrize(("collective", "algorithm"), [entry for entry in ENTRIES if entry[0] in UNEVEN])
def test_uneven_shares_agree_with_numpy_or_are_refused(
    collective: str, algorithm: str, transport: str, world: int
) -> None:
    name = f"{collective}_v"
    axes = {
        "dtype": ("float32", "float8_e5m2", "int64", "bool"),
        "op": [op for op in ops_of(name) if op in ("sum", "prod", "max")],
        "counts": uneven_counts(world),
        "form": forms_of(name),
    }
    cases = [Case(name, algorithm, count=0, seed=number, **row) for number, row in enumerate(pairwise(axes))]
    by_rank = run_everywhere(transport, world, run_cases, cases)
    for case, *results in zip(cases, *by_rank, strict=True):
        refused = [isinstance(result, str) for result in results]
        if any(refused) and algorithm != "auto":
            assert all(refused), f"{case}: only some ranks refused, so the others would wait for them"
            assert all("needs shares of equal size" in str(result) for result in results)
        else:
            check(case, results)


@every_world
@everywhere
@pytest.mark.parametrize("algorithm", [*rt.algorithms("barrier"), "auto"])
def test_a_barrier_lets_nobody_through_before_everybody_has_come(
    algorithm: str, transport: str, world: int
) -> None:
    by_rank = run_everywhere(transport, world, arrivals_and_departures, algorithm)
    for meeting in zip(*by_rank, strict=True):
        assert max(arrival for arrival, _ in meeting) <= min(departure for _, departure in meeting)


@every_world
@everywhere
def test_messages_arrive_as_they_were_sent(transport: str, world: int) -> None:
    assert run_everywhere(transport, world, exchange_messages) == [True] * world
