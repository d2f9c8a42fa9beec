"""The catalogue against nccl-tests' published formulas, and its results against NumPy written out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.check import Inputs, count_wrong
from ringtree_bench.collectives import COLLECTIVES

# doc/PERFORMANCE.md of nccl-tests, "Summary"; sendrecv, gather and scatter from its sources.
PUBLISHED_BUS_FACTORS: dict[str, Callable[[int], float]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1,
    "reduce": lambda n: 1,
    "all_to_all": lambda n: (n - 1) / n,
    "gather": lambda n: (n - 1) / n,
    "scatter": lambda n: (n - 1) / n,
    "sendrecv": lambda n: 1,
}

Arrays = list[NDArray[np.float64]]

# Given every rank's input, the result of every rank that has one.
BY_HAND: dict[str, Callable[[Arrays, int], dict[int, NDArray[np.float64]]]] = {
    "all_reduce": lambda x, n: dict.fromkeys(range(n), np.sum(x, axis=0)),
    "reduce": lambda x, n: {0: np.sum(x, axis=0)},
    "broadcast": lambda x, n: dict.fromkeys(range(n), x[0]),
    "all_gather": lambda x, n: dict.fromkeys(range(n), np.concatenate(x)),
    "reduce_scatter": lambda x, n: dict(enumerate(np.split(np.sum(x, axis=0), n))),
    "all_to_all": lambda x, n: dict(enumerate(np.array(x).reshape(n, n, -1).swapaxes(0, 1).reshape(n, -1))),
    "gather": lambda x, n: {0: np.concatenate(x)},
    "scatter": lambda x, n: dict(enumerate(np.split(x[0], n))),
    "sendrecv": lambda x, n: {rank: x[rank - 1] for rank in range(n)},
}


def one_case(name: str, size_bytes: int, world: int, dtype: str = "float64", op: str = "sum") -> Case:
    (case,) = cases_of_sizes(name, [size_bytes], dtype, op, world)
    return case


@pytest.mark.parametrize("name", COLLECTIVES)
@pytest.mark.parametrize("world", [1, 2, 3, 8, 100])
def test_busbw_is_what_nccl_tests_publishes(name: str, world: int) -> None:
    case = one_case(name, 48_000, world)
    assert case.algorithm_bandwidth(1e-3) == pytest.approx(48_000 / 1e-3 / 1e9)
    assert case.bus_bandwidth(1e-3) == pytest.approx(48e-3 * PUBLISHED_BUS_FACTORS[name](world))


@pytest.mark.parametrize("name", ["all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"])
def test_a_divided_array_counts_one_ranks_share(name: str) -> None:
    case = one_case(name, 1_000, 3, "float32")
    assert (case.count, case.size_bytes) == (83, 996)  # 1000 bytes hold 250 elements: 83 for each of 3 ranks


@pytest.mark.parametrize("name", ["all_reduce", "reduce", "broadcast", "sendrecv"])
def test_a_whole_array_counts_all_its_elements(name: str) -> None:
    case = one_case(name, 1_000, 3, "float32")
    assert (case.count, case.size_bytes) == (250, 1_000)


def test_sizes_that_hold_no_element_or_round_to_the_same_count_make_no_row() -> None:
    cases = cases_of_sizes("all_gather", [4, 8, 12, 16, 32], "float32", "sum", 3)
    assert [case.count for case in cases] == [1, 2]


@pytest.mark.parametrize("name", COLLECTIVES)
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_reference_is_what_numpy_says(name: str, world: int) -> None:
    case = one_case(name, 8 * world * 6, world)
    inputs = Inputs(case, [7])
    given = [np.zeros(case.input_elements) for _ in range(world)]
    for rank, x in enumerate(given):
        inputs.fill(x, rank)
    results = BY_HAND[name](given, world)
    for rank in range(world):
        segments = case.collective.segments(rank, world, case.count)
        covered = np.concatenate([np.arange(s.start, s.start + s.length) for s in segments] or [np.zeros(0)])
        expected = results.get(rank, np.zeros(0))
        np.testing.assert_array_equal(covered, np.arange(expected.size))
        assert count_wrong(expected, case, rank, inputs) == 0
        assert count_wrong(expected + 1, case, rank, inputs) == expected.size


def test_the_chooser_counts_the_bytes_of_all_ranks_only_for_all_to_all() -> None:
    for name in COLLECTIVES:
        assert one_case(name, 4096, 4).chooser_bytes == (4 * 4096 if name == "all_to_all" else 4096)


@pytest.mark.parametrize("name", COLLECTIVES)
def test_the_least_traffic_reads_every_input_that_counts_and_writes_every_result(name: str) -> None:
    world = 4
    case = one_case(name, 8 * 1024, world)
    rooted_input = name in ("broadcast", "scatter")
    reads = case.input_elements * (1 if rooted_input else world)
    segments = [case.collective.segments(rank, world, case.count) for rank in range(world)]
    results = [sum(segment.length for segment in of_one_rank) for of_one_rank in segments]
    writes = sum(results) - (results[0] if name == "broadcast" else 0)  # the root's own array stays
    assert case.least_traffic_bytes == 8 * (reads + writes)
