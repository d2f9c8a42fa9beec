"""What every collective must give, from NumPy in float64 (int64 for integers), and inputs to try it with."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import ringtree as rt

Array = np.ndarray[Any, Any]

# NumPy itself has no bfloat16 and no float8.
NUMPY_TYPES = {
    name: np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)
    for name in rt.DTYPES
}
FLOATS = {name: ml_dtypes.finfo(dtype) for name, dtype in NUMPY_TYPES.items() if dtype.kind in "fV"}

FACTOR = 0.5  # of premul_sum: exact in every type


def supported(op: str, dtype: str) -> bool:
    """Bits only of integers and bool; quotients and factors only of floats."""
    if op in ("band", "bor", "bxor"):
        return dtype not in FLOATS
    return op not in ("avg", "premul_sum") or dtype in FLOATS


def operation(op: str) -> Any:
    """What `op=` takes."""
    return rt.premul_sum(FACTOR) if op == "premul_sum" else op


def exact_input(generator: np.random.Generator, dtype: str, op: str, count: int) -> Array:
    """Values whose reduction over 8 ranks needs no rounding in any order (but avg's one division)."""
    kind = NUMPY_TYPES[dtype]
    if dtype == "bool":
        return generator.random(count) < 0.5
    if dtype not in FLOATS:
        limits = np.iinfo(kind)  # sums and products wrap, which is exact, too
        return generator.integers(limits.min, limits.max, count, dtype=kind, endpoint=True)
    if op == "prod":
        return generator.choice([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], count).astype(kind)
    largest = 1 if FLOATS[dtype].nmant < 7 else 8
    return generator.integers(-largest, largest, count, endpoint=True).astype(kind)


def random_input(generator: np.random.Generator, dtype: str, op: str, count: int) -> Array:
    """Like `exact_input`, but floats that have to be rounded; near 1 for products, so that none overflows."""
    if dtype not in FLOATS:
        return exact_input(generator, dtype, op, count)
    values = generator.uniform(0.5, 1.5, count) if op == "prod" else generator.normal(size=count)
    return values.astype(NUMPY_TYPES[dtype])


def any_bytes(generator: np.random.Generator, dtype: str, count: int) -> Array:
    """Any bits whatever: for collectives that must not look at what they carry."""
    if dtype == "bool":
        return generator.random(count) < 0.5
    return np.frombuffer(generator.bytes(count * NUMPY_TYPES[dtype].itemsize), NUMPY_TYPES[dtype])


def reduced(inputs: Sequence[Array], dtype: str, op: str) -> Array:
    """The reduction over ranks: in float64, int64 or bool."""
    if dtype == "bool":
        wide = np.stack(inputs)
        return {"sum": np.any, "max": np.any, "bor": np.any, "bxor": np.logical_xor.reduce}.get(op, np.all)(
            wide, axis=0
        )
    wide = np.stack([x.astype(np.float64 if dtype in FLOATS else np.int64) for x in inputs])
    with np.errstate(over="ignore"):
        match op:
            case "sum":
                return wide.sum(axis=0)
            case "avg":
                return wide.sum(axis=0) / len(inputs)
            case "premul_sum":
                return (wide * FACTOR).sum(axis=0)
            case "prod":
                return wide.prod(axis=0)
            case "min":
                return wide.min(axis=0)
            case "max":
                return wide.max(axis=0)
            case "band":
                return np.bitwise_and.reduce(wide, axis=0)
            case "bor":
                return np.bitwise_or.reduce(wide, axis=0)
            case "bxor":
                return np.bitwise_xor.reduce(wide, axis=0)
    raise KeyError(op)


def check_exact(got: Array, expected: Array, dtype: str, op: str) -> None:
    """Compares a reduction of `exact_input`: equal, but for the one rounding of a quotient."""
    if dtype not in FLOATS:
        np.testing.assert_array_equal(got, expected.astype(NUMPY_TYPES[dtype]))  # integers wrap
    elif op == "avg":
        np.testing.assert_allclose(
            got.astype(np.float64), expected, rtol=float(FLOATS[dtype].eps) / 2, atol=0
        )
    else:
        np.testing.assert_array_equal(got.astype(np.float64), expected)


def check_close(got: Array, inputs: Sequence[Array], dtype: str, op: str) -> None:
    """Compares a reduction of `random_input`, each of whose steps may round once.

    A sum of n terms is wrong by at most (n + 1) / 2 units of the last place of the sum of their sizes; a
    product by as many of its own. The factor and the quotient add one each.
    """
    expected = reduced(inputs, dtype, op)
    if dtype not in FLOATS or op in ("min", "max"):
        check_exact(got, expected, dtype, op)
        return
    eps = float(FLOATS[dtype].eps)
    tiny = float(FLOATS[dtype].smallest_subnormal)
    size = np.abs(expected) if op == "prod" else reduced([np.abs(x) for x in inputs], dtype, op)
    bound = (len(inputs) + 1) * (eps / 2 * size * 1.5 + tiny)
    error = np.abs(got.astype(np.float64) - expected)
    assert (error <= bound).all(), f"wrong by {error.max()}, allowed are {bound[error.argmax()]}"
