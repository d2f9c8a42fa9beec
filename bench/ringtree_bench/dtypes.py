"""Element types by name, as NumPy knows them; bfloat16 and float8 come from ml_dtypes."""

from typing import Any

import numpy as np

_FROM_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
FLOATS = ("float64", "float32", "float16", *_FROM_ML_DTYPES)
_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}


class MissingDtypeError(ValueError):
    """The type exists, but what brings it into NumPy is not installed."""


def item_bytes(name: str) -> int:
    """Bytes of one element."""
    return _ITEM_BYTES.get(name, 1)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`."""
    if name not in _FROM_ML_DTYPES:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise MissingDtypeError(f"{name} arrays need ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def float_limits(name: str) -> tuple[float, float]:
    """Distance from 1 to the next number, and the largest finite number, of a float type."""
    dtype = numpy_dtype(name)
    if name in _FROM_ML_DTYPES:
        import ml_dtypes

        finfo: Any = ml_dtypes.finfo  # untyped
        limits = finfo(name)
        return float(limits.eps), float(limits.max)
    plain = np.finfo(dtype)
    return float(plain.eps), float(plain.max)
