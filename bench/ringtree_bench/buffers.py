"""One input and one output array a rank, allocated once and shared by all rivals and sizes.

All rivals work on the same pages, so none is luckier with its memory than another.
"""

import os

import numpy as np
from numpy.typing import NDArray

from ringtree_bench import dtypes
from ringtree_bench.cases import Case
from ringtree_bench.check import Array

PAGE_BYTES = 4096


class Buffers:
    """Page-aligned memory for the largest of some cases."""

    def __init__(self, cases: list[Case]) -> None:
        """Allocate and touch it."""
        self._input = pages(max(case.input_elements * dtypes.item_bytes(case.dtype) for case in cases))
        self._output = pages(max(case.output_elements * dtypes.item_bytes(case.dtype) for case in cases))

    def of(self, case: Case) -> tuple[Array, Array]:
        """The input and the output of `case`; the output is empty where the result replaces the input."""
        dtype, item = dtypes.numpy_dtype(case.dtype), dtypes.item_bytes(case.dtype)
        x = self._input[: case.input_elements * item].view(dtype)
        return x, self._output[: case.output_elements * item].view(dtype)


def bytes_needed(cases: list[Case]) -> int:
    """What all ranks together allocate for `cases`; rivals may need as much again for themselves."""
    item = dtypes.item_bytes(cases[0].dtype)
    return max(case.world * (case.input_elements + case.output_elements) * item for case in cases)


def bytes_available() -> int:
    """Memory that this host can still give."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def pages(nbytes: int) -> NDArray[np.uint8]:
    """Page-aligned bytes that are really there."""
    memory = np.zeros(nbytes + PAGE_BYTES, dtype=np.uint8)
    memory.fill(1)  # touched: zeros alone would map every page to the same one
    start = -memory.ctypes.data % PAGE_BYTES
    return memory[start : start + nbytes]
