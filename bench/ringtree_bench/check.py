"""Fresh random inputs, the float64 reference that follows from them, and the count of wrong elements.

Inputs repeat with a prime period, so that a 256 MiB array costs no more random numbers than 4 MiB, every
rank can know what all others send, and data that lands in a wrong place still does not match: the boundaries
of chunks are no multiple of the period apart.
"""

import math
from collections.abc import Sequence
from functools import cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtree_bench import dtypes
from ringtree_bench.cases import Case

PERIOD = 1_048_573  # the largest prime below 2^20
PREMUL_FACTOR = 0.5
_ROUNDING_OPS = ("sum", "avg", "premul_sum")

Array = NDArray[Any]

_OPS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}
_BOOL_OPS = _OPS | {"sum": np.logical_or, "prod": np.logical_and}


class Inputs:
    """The inputs of all ranks for one check of one case; the same on every rank that gives the same seed."""

    def __init__(self, case: Case, seed: Sequence[int]) -> None:
        """Draw a block for each rank from `seed`."""
        self._case = case
        length = min(case.input_elements, PERIOD)
        self._blocks = [
            _random_block(case, length, np.random.default_rng([*seed, rank])) for rank in range(case.world)
        ]
        self._references: dict[tuple[int, ...], Array] = {}

    def fill(self, x: Array, rank: int) -> None:
        """Write what `rank` gives into `x`."""
        block = self._blocks[rank]
        for start in range(0, x.size, block.size):
            x[start : start + block.size] = block[: x.size - start]

    def reference(self, sources: tuple[int, ...]) -> Array:
        """The block that results from combining the blocks of `sources`: float64 for floats, else exact."""
        if sources not in self._references:
            blocks = [self._blocks[source] for source in sources]
            self._references[sources] = combine(self._case.op, blocks, self._case.dtype)
        return self._references[sources]


def _random_block(case: Case, length: int, rng: np.random.Generator) -> Array:
    """Values for which no sum over the ranks overflows and a relative tolerance is fair.

    Sums are of positive numbers (no cancellation); factors of a product are 1 and -1, or 1 and 2. Half of the
    float8 values are 0: where one rank alone contributes, even a tolerance of many percent shows its absence.
    """
    dtype = dtypes.numpy_dtype(case.dtype)
    if case.dtype == "bool":
        return rng.random(length, dtype=np.float32) < 0.5
    if case.dtype in dtypes.FLOATS:
        if case.op == "prod":
            return (1 - 2 * rng.integers(0, 2, length, dtype=np.int8)).astype(dtype)
        values = 0.5 + rng.random(length, dtype=np.float32)
        if dtype.itemsize == 1:
            values *= rng.integers(0, 2, length, dtype=np.int8)
        return values.astype(dtype)
    if case.op == "prod":
        return rng.integers(1, 3, length, dtype=np.int8).astype(dtype)
    return rng.integers(0, max(2, 127 // case.world), length, dtype=np.int8).astype(dtype)


def combine(op: str, blocks: Sequence[Array], dtype: str) -> Array:
    """What one element-wise reduction of `blocks` must give, in float64 or exactly; "none" takes one block.

    Raises:
        ValueError: `op` does not exist for this type.
    """
    require_op(op, dtype)
    if dtype in dtypes.FLOATS:
        blocks = [block.astype(np.float64) for block in blocks]
    if op == "none":
        return blocks[0]
    if dtype == "bool":
        return reduce(_BOOL_OPS[op], blocks)
    if op in ("avg", "premul_sum"):
        return reduce(np.add, blocks) * (PREMUL_FACTOR if op == "premul_sum" else 1 / len(blocks))
    return reduce(_OPS[op], blocks)  # integers wrap in their own type, as they must


def require_op(op: str, dtype: str) -> None:
    """Raise ValueError where `op` is not defined for `dtype`."""
    if op in ("avg", "premul_sum") and dtype not in dtypes.FLOATS:
        raise ValueError(f"{op} of {dtype} does not exist: it needs a float type")
    if op in ("band", "bor", "bxor") and dtype in dtypes.FLOATS:
        raise ValueError(f"{op} of {dtype} does not exist: it needs integers or bool")


def relative_tolerance(case: Case) -> float:
    """Allowed relative error of one element.

    A sum over n ranks is rounded n - 1 times and a factor once more, each time by at most half of the
    distance between neighbouring numbers, in whatever order: 1 - (1 - that)^n. It is always below 1, so that
    a missing result is wrong even in float8. What is only moved, compared or exact must be equal.
    """
    if case.dtype not in dtypes.FLOATS or case.op not in _ROUNDING_OPS:
        return 0.0
    half_a_step = dtypes.float_limits(case.dtype)[0] / 2
    roundings = case.world + (case.dtype == "float64")  # the float64 reference is rounded too
    return -math.expm1(roundings * math.log1p(-half_a_step))


def count_wrong(result: Array, case: Case, rank: int, inputs: Inputs) -> int:
    """Elements of this rank's `result` that are not what the reference says; NaN is wrong."""
    tolerance = relative_tolerance(case)
    wrong = 0
    for segment in case.collective.segments(rank, case.world, case.count):
        wanted = inputs.reference(segment.sources)
        done = 0
        while done < segment.length:
            phase = (segment.source_start + done) % wanted.size
            length = min(segment.length - done, wanted.size - phase)
            got = result[segment.start + done : segment.start + done + length]
            want = wanted[phase : phase + length]
            wrong += length - _count_equal(got, want, tolerance)
            done += length
    return wrong


def _count_equal(got: Array, want: Array, tolerance: float) -> int:
    if want.dtype != np.float64:
        return int(np.count_nonzero(got == want))
    exact = got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return int(np.count_nonzero(np.abs(exact - want) <= tolerance * np.abs(want)))


def spoil(out: Array) -> None:
    """Fill an output with what no input holds, so that a call that writes nothing is found out."""
    out.view(np.uint8).fill(spoil_byte(out.dtype))


def spoil_byte(dtype: np.dtype[Any]) -> int:
    """A byte of which a type's spoilt elements consist: NaN, or -1, or 255; bool has no such value."""
    return 0 if dtype == np.bool_ else 0xFF


@cache
def most_calls_in_a_row(op: str, dtype: str, world: int) -> float:
    """How often a reduction may be repeated in place before its values leave the range of the type."""
    growth = {"sum": world, "premul_sum": world * PREMUL_FACTOR}.get(op, 1.0)
    if growth <= 1 or dtype not in dtypes.FLOATS:
        return math.inf
    largest_input = 1.5
    return max(1, math.floor(math.log(dtypes.float_limits(dtype)[1] / largest_input) / math.log(growth)))
