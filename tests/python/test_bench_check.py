"""Fresh inputs, the tolerance, and that wrong elements are counted."""

import math

import numpy as np
import pytest
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.check import (
    PERIOD,
    PREMUL_FACTOR,
    Inputs,
    combine,
    count_wrong,
    most_calls_in_a_row,
    relative_tolerance,
    spoil,
)
from ringtree_bench.dtypes import FLOATS, numpy_dtype

ALL_DTYPES = [*FLOATS, "int64", "int32", "int8", "uint8", "bool"]


def sum_case(count: int, world: int, dtype: str = "float32", op: str = "sum") -> Case:
    (case,) = cases_of_sizes("all_reduce", [count * numpy_dtype(dtype).itemsize], dtype, op, world)
    return case


def summed_in_order(case: Case, inputs: Inputs, order: list[int]) -> np.ndarray:
    """A rank-by-rank sum in the type itself: a right answer with the worst rounding there is."""
    total = np.zeros(case.count, numpy_dtype(case.dtype))
    x = np.zeros_like(total)
    for rank in order:
        inputs.fill(x, rank)
        total = total + x if rank != order[0] else x.copy()
    return total


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("world", [2, 3, 8])
def test_a_sum_in_any_order_in_the_type_itself_passes(dtype: str, world: int) -> None:
    case = sum_case(5_000, world, dtype)
    inputs = Inputs(case, [1, 2])
    for order in (list(range(world)), list(reversed(range(world)))):
        assert count_wrong(summed_in_order(case, inputs, order), case, 0, inputs) == 0


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("world", [2, 3, 8])
def test_a_sum_that_lacks_one_rank_is_found(dtype: str, world: int) -> None:
    case = sum_case(5_000, world, dtype)
    inputs = Inputs(case, [1, 2])
    assert count_wrong(summed_in_order(case, inputs, list(range(1, world))), case, 0, inputs) > 0


def test_each_wrong_element_counts_once_and_nan_is_wrong() -> None:
    case = sum_case(10_000, 2)
    inputs = Inputs(case, [3])
    result = summed_in_order(case, inputs, [0, 1])
    result[[0, 77, 9_999]] = (np.nan, result[77] * 1.001, np.inf)
    assert count_wrong(result, case, 0, inputs) == 3


def test_data_from_a_neighbouring_chunk_is_wrong_even_beyond_the_period() -> None:
    case = sum_case(2 * PERIOD + 4096, 2)
    inputs = Inputs(case, [4])
    result = summed_in_order(case, inputs, [0, 1])
    assert count_wrong(result, case, 0, inputs) == 0
    half = case.count // 2
    swapped = np.concatenate([result[half:], result[:half]])
    assert count_wrong(swapped, case, 0, inputs) > 0.99 * case.count


def test_the_same_seed_gives_the_same_inputs_and_another_seed_others() -> None:
    case = sum_case(1_000, 2)
    first, same, other = np.zeros((3, 1_000), np.float32)
    Inputs(case, [5, 1]).fill(first, 1)
    Inputs(case, [5, 1]).fill(same, 1)
    Inputs(case, [5, 2]).fill(other, 1)
    assert (first == same).all()
    assert (first != other).mean() > 0.99


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_an_output_that_nobody_writes_is_wrong(dtype: str) -> None:
    (case,) = cases_of_sizes("all_gather", [8_000], dtype, "sum", 2)
    out = np.zeros(case.output_elements, numpy_dtype(dtype))
    spoil(out)
    assert count_wrong(out, case, 0, Inputs(case, [6])) > 0.4 * out.size


def test_the_tolerance_follows_from_the_type_and_the_number_of_ranks() -> None:
    half_steps = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
    for dtype, half_step in half_steps.items():
        for world in (2, 8):
            allowed = relative_tolerance(sum_case(8, world, dtype))
            assert 0.99 * world * half_step <= allowed <= 1.6 * world * half_step
    for op in ("min", "max", "prod"):
        assert relative_tolerance(sum_case(8, 8, "float32", op)) == 0
    assert relative_tolerance(sum_case(8, 8, "int32")) == 0


@pytest.mark.parametrize(
    ("op", "dtype", "expected"),
    [
        ("sum", "int8", [-128, 5]),  # wraps
        ("prod", "int32", [127, 6]),
        ("min", "float32", [1, 2]),
        ("max", "float32", [127, 3]),
        ("avg", "float32", [64, 2.5]),
        ("premul_sum", "float32", [128 * PREMUL_FACTOR, 5 * PREMUL_FACTOR]),
        ("band", "uint8", [1, 2]),
        ("bor", "uint8", [127, 3]),
        ("bxor", "uint8", [126, 1]),
    ],
)
def test_every_operation_is_numpys(op: str, dtype: str, expected: list[float]) -> None:
    blocks = [np.array([127, 3], dtype=dtype), np.array([1, 2], dtype=dtype)]
    np.testing.assert_array_equal(combine(op, blocks, dtype), expected)


@pytest.mark.parametrize(("op", "truth"), [("sum", "or"), ("max", "or"), ("bor", "or"), ("prod", "and"),
                                           ("min", "and"), ("band", "and"), ("bxor", "xor")])  # fmt: skip
def test_bool_has_the_logic_of_its_operations(op: str, truth: str) -> None:
    left, right = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    expected = {"or": left | right, "and": left & right, "xor": left ^ right}[truth]
    np.testing.assert_array_equal(combine(op, [left, right], "bool"), expected)


@pytest.mark.parametrize(("op", "dtype"), [("avg", "int32"), ("premul_sum", "bool"), ("bxor", "float32")])
def test_an_operation_that_a_type_does_not_have_is_refused(op: str, dtype: str) -> None:
    with pytest.raises(ValueError, match=f"{op} of {dtype} does not exist"):
        combine(op, [np.zeros(1, dtype), np.zeros(1, dtype)], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("world", [2, 3, 8])
def test_repeating_a_sum_in_place_stays_finite_for_as_long_as_promised(dtype: str, world: int) -> None:
    calls = most_calls_in_a_row("sum", dtype, world)
    assert 1 <= calls < math.inf
    values = np.array([1.5], numpy_dtype(dtype))
    for _ in range(int(calls)):
        values = (values.astype(np.float64) * world).astype(values.dtype)
    assert np.isfinite(values.astype(np.float64)).all() or calls == 1


def test_what_does_not_grow_may_be_repeated_for_ever() -> None:
    assert most_calls_in_a_row("max", "float16", 8) == math.inf
    assert most_calls_in_a_row("sum", "int8", 8) == math.inf
    assert most_calls_in_a_row("sum", "float32", 1) == math.inf
