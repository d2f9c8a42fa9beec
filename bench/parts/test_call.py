"""One Python call: what it costs to reach the core and come back, with nobody to wait for."""

from collections.abc import Iterator

import numpy as np
import pytest
import ringtree as rt
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture
def alone() -> Iterator[rt.Communicator]:
    """A world of one."""
    with rt.init() as comm:
        yield comm


def test_all_reduce_of_8_bytes_alone(benchmark: BenchmarkFixture, alone: rt.Communicator) -> None:
    """Arguments are checked, the array is looked into, the core is entered and left."""
    x = np.ones(2, np.float32)
    benchmark(alone.all_reduce, x)
    assert x.tolist() == [1, 1]


def test_barrier_alone(benchmark: BenchmarkFixture, alone: rt.Communicator) -> None:
    """The same without an array."""
    benchmark(alone.barrier)
