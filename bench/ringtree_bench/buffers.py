"""One input and one output array a rank, allocated once and shared by all rivals and sizes.

All rivals work on the same pages, so none is luckier with its memory than another.
"""

import os
from collections.abc import Callable

from ringtree_bench import dtypes
from ringtree_bench.cases import Case
from ringtree_bench.check import Array
from ringtree_bench.worker import Bytes, pages


class Buffers:
    """Page-aligned memory for the largest of some cases."""

    def __init__(self, cases: list[Case], allocate: Callable[[int], Bytes] = pages) -> None:
        """Take it from `allocate`, which gives pages that are really there."""
        self._input, self._output = map(allocate, largest(cases))

    def of(self, case: Case) -> tuple[Array, Array]:
        """The input and the output of `case`; the output is empty where the result replaces the input."""
        dtype, item = dtypes.numpy_dtype(case.dtype), dtypes.item_bytes(case.dtype)
        x = self._input[: case.input_elements * item].view(dtype)
        return x, self._output[: case.output_elements * item].view(dtype)


def largest(cases: list[Case]) -> tuple[int, int]:
    """Bytes of the input and of the output that serve every one of `cases`."""
    item = dtypes.item_bytes(cases[0].dtype)
    return (
        max(case.input_elements for case in cases) * item,
        max(case.output_elements for case in cases) * item,
    )


def bytes_needed(cases: list[Case]) -> int:
    """What all ranks together allocate for `cases`; rivals may need as much again for themselves."""
    item = dtypes.item_bytes(cases[0].dtype)
    return max(case.world * (case.input_elements + case.output_elements) * item for case in cases)


def bytes_available() -> int:
    """Memory that this host can still give."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
