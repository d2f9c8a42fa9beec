"""What holds for any call: random worlds, sizes, types, operations, algorithms and values, over threads.

The inputs here need rounding, and hold NaNs, infinities and both zeros; test_catalogue.py has the exact ones.
"""

import numpy as np
import pytest
import ringtree as rt
from contract.cases import REDUCTIONS, Case, check, forms_of, has_root, ops_of, run_cases
from contract.reference import FLOATS, NUMPY_TYPES, Array, supported
from contract.worlds import run_everywhere
from hypothesis import given, settings
from hypothesis import strategies as st

calls = settings(max_examples=150, deadline=None, derandomize=True, print_blob=True)

MOVING = tuple(c for c in rt.COLLECTIVES if c != "barrier")  # all that carry data
UNEVEN = ("all_gather_v", "reduce_scatter_v", "all_to_all_v")
worlds = st.integers(1, 8)
counts = st.one_of(st.integers(0, 70), st.integers(0, 20_000))


@st.composite
def cases(draw: st.DrawFn, world: int) -> Case:
    collective = draw(st.sampled_from([*MOVING, *UNEVEN]))
    base = collective.removesuffix("_v")
    op = draw(st.sampled_from(ops_of(collective)))
    return Case(
        collective,
        # Only "auto" is sure to take uneven shares.
        "auto" if collective in UNEVEN else draw(st.sampled_from([*rt.algorithms(base), "auto"])),
        draw(st.sampled_from([dtype for dtype in rt.DTYPES if supported(op, dtype)])),
        draw(counts),
        op,
        draw(st.sampled_from(forms_of(collective))),
        draw(st.integers(0, world - 1)) if has_root(collective) else 0,
        tuple(draw(st.lists(counts, min_size=world, max_size=world))) if collective in UNEVEN else (),
        rounds=collective in REDUCTIONS,
        seed=draw(st.integers(0, 2**32)),
    )


@calls
@given(data=st.data(), world=worlds)
def test_any_sequence_of_calls_agrees_with_numpy(data: st.DataObject, world: int) -> None:
    sequence = data.draw(st.lists(cases(world), min_size=1, max_size=5))
    for case, *results in zip(sequence, *run_everywhere("threads", world, run_cases, sequence), strict=True):
        check(case, results)


SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]


def reduce_specials(comm: rt.Communicator, inputs: list[Array], op: str, algorithm: str) -> Array:
    x = inputs[comm.rank].copy()
    comm.all_reduce(x, op, algorithm=algorithm)
    return x


@calls
@given(
    world=worlds,
    op=st.sampled_from(["sum", "prod", "min", "max", "avg"]),
    dtype=st.sampled_from(sorted(FLOATS)),
    algorithm=st.sampled_from(rt.algorithms("all_reduce")),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 300),
)
def test_nan_infinity_and_zero_follow_numpy_with_the_same_bits_on_every_rank(
    world: int, op: str, dtype: str, algorithm: str, seed: int, count: int
) -> None:
    generator = np.random.default_rng(seed)
    inputs = [
        generator.choice(SPECIAL, count).astype(NUMPY_TYPES[dtype]) for _ in range(world)
    ]  # e4m3 has no infinity
    results = run_everywhere("threads", world, reduce_specials, inputs, op, algorithm)
    assert len({result.tobytes() for result in results}) == 1
    wide = np.stack([x.astype(np.float64) for x in inputs])
    with np.errstate(invalid="ignore"):
        expected = {
            "sum": lambda: wide.sum(axis=0),
            "avg": lambda: wide.sum(axis=0) / world,
            "prod": lambda: wide.prod(axis=0),
            "min": lambda: wide.min(axis=0),
            "max": lambda: wide.max(axis=0),
        }[op]()
    np.testing.assert_allclose(results[0].astype(np.float64), expected, rtol=float(FLOATS[dtype].eps) / 2)


def split_and_sum(
    comm: rt.Communicator, colors: list[int | None], keys: list[int]
) -> tuple[int, list[int]] | None:
    sub = comm.split(colors[comm.rank], keys[comm.rank])
    if sub is None:
        return None
    with sub:
        members = np.empty(sub.world_size, np.int64)
        sub.all_gather(members, np.array([comm.rank]))
        return sub.rank, members.tolist()


@settings(calls, max_examples=40)
@given(data=st.data(), world=worlds)
def test_split_groups_by_color_and_orders_by_key_then_rank(data: st.DataObject, world: int) -> None:
    colors = data.draw(st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=world, max_size=world))
    keys = data.draw(st.lists(st.integers(-1, 1), min_size=world, max_size=world))
    results = run_everywhere("threads", world, split_and_sum, colors, keys)
    for rank, result in enumerate(results):
        if colors[rank] is None:
            assert result is None
            continue
        group = sorted((r for r in range(world) if colors[r] == colors[rank]), key=lambda r: (keys[r], r))
        assert result == (group.index(rank), group)


def test_every_collective_has_contract_cases() -> None:
    """A new collective must come with its reference, not slip through."""
    for collective in rt.COLLECTIVES:
        if collective == "barrier":
            continue
        case = Case(collective, "auto", "float32", 3)
        check(case, [result for [result] in run_everywhere("threads", 2, run_cases, [case])])


def test_a_wrong_result_is_noticed() -> None:
    """The checks of these tests are themselves checked: one wrong element in one rank's result."""
    for collective in (*MOVING, *UNEVEN):
        for rounds in (False, True):
            shares = (2, 3, 4) if collective in UNEVEN else ()
            case = Case(collective, "auto", "int32", 3, counts=shares, root=1, rounds=rounds)
            results = [result for [result] in run_everywhere("threads", 3, run_cases, [case])]
            check(case, results)
            damaged = next(result for result in results if isinstance(result, np.ndarray) and result.size)
            damaged[-1] += 1
            with pytest.raises(AssertionError):
                check(case, results)
