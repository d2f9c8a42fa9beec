"""One reduction loop: the megabytes of two ranks, for the types whose arithmetic differs."""

import numpy as np
import pytest
import ringtree as rt
from pytest_benchmark.fixture import BenchmarkFixture
from ringtree_bench.dtypes import numpy_dtype

BYTES = 1 << 20
STOP = 3


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int8"])
def test_max_of_one_mebibyte(benchmark: BenchmarkFixture, dtype: str) -> None:
    """The one-shot algorithm is little but the loop. A maximum may be repeated in place: it does not grow."""
    pytest.importorskip("ml_dtypes")
    item = numpy_dtype(dtype)
    benchmark.extra_info["bytes"] = BYTES

    def body(comm: rt.Communicator) -> None:
        x = np.full(BYTES // item.itemsize, comm.rank + 1).astype(item)

        def reduce() -> None:
            comm.all_reduce(x, "max", algorithm="one_shot")

        if comm.rank == 0:
            benchmark.pedantic(reduce, rounds=50, iterations=4, warmup_rounds=2)
            assert (x == np.array(2).astype(item)).all()
            x[:] = STOP
            reduce()
        else:
            while x[0] < STOP:
                reduce()

    rt.run_local(2, body)
