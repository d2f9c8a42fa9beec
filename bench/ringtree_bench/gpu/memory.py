"""Memory of the GPU for the largest case: of each rank that a seat makes calls for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD, as_buffer

from ringtree_bench import dtypes
from ringtree_bench.buffers import largest
from ringtree_bench.cases import Case
from ringtree_bench.check import PERIOD, Array, Inputs, spoil_byte


class View:
    """Elements from the beginning of some memory of a GPU, for any library that knows CUDA's interface."""

    def __init__(self, memory: _core.GpuMemory, count: int, dtype: str, skipped_bytes: int = 0) -> None:
        """The first `count` of them, behind some bytes."""
        self.address, self.count, self.dtype = memory.address + skipped_bytes, count, dtype
        self._memory, self._skipped_bytes = memory, skipped_bytes
        self.nbytes = count * dtypes.item_bytes(dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the interface."""
        return {
            "shape": (self.count,),
            "typestr": dtypes.numpy_dtype(self.dtype).str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
            "stream": STREAM_OF_THREAD,
        }

    def as_bytes(self) -> "View":
        """The same memory, whatever it holds."""
        return View(self._memory, self.nbytes, "uint8", self._skipped_bytes)


def stream_of(array: Any) -> int:
    """Where calls on `array` are enqueued now."""
    place = as_buffer(array, False).place
    assert place is not None  # it is on a GPU
    return place[1]


class Memory:
    """What collectives read and write, for each rank of a seat; and the first inputs, to begin with again."""

    def __init__(self, ranks: Sequence[int], cases: list[Case], skipped: int = 0) -> None:
        """Taken now: nothing is allocated while kernels of other ranks wait for those of this one.

        `skipped`: elements before each array, so that it is aligned no better than they are.
        """
        self._ranks, self._skipped = ranks, skipped
        room = skipped * max(dtypes.item_bytes(case.dtype) for case in cases)
        inputs, outputs = (max(size, 1) + room for size in largest(cases))
        grows = any(_grows(case) for case in cases)
        self._inputs = [_core.gpu_allocate(inputs) for _ in ranks]
        self._outputs = [_core.gpu_allocate(outputs) for _ in ranks]
        self._first_inputs = [_core.gpu_allocate(inputs) for _ in ranks] if grows else self._inputs

    def inputs(self, case: Case) -> list[View]:
        """One a rank."""
        return self._views(self._inputs, case.input_elements, case)

    def outputs(self, case: Case) -> list[View]:
        """One a rank; empty where the result replaces the input."""
        return self._views(self._outputs, case.output_elements, case)

    def _views(self, memories: list[_core.GpuMemory], count: int, case: Case) -> list[View]:
        skipped_bytes = self._skipped * dtypes.item_bytes(case.dtype)
        return [View(memory, count, case.dtype, skipped_bytes) for memory in memories]

    def fill(self, case: Case, inputs: Inputs) -> None:
        """Give each rank its input, and let no output look like a result."""
        targets = self._views(self._first_inputs if _grows(case) else self._inputs, case.input_elements, case)
        for target, rank in zip(targets, self._ranks, strict=True):
            block = np.empty(min(case.input_elements, PERIOD), dtypes.numpy_dtype(case.dtype))
            inputs.fill(block, rank)
            _repeat(target, block)
        for view in self.outputs(case):
            if view.nbytes:
                spoilt = spoil_byte(dtypes.numpy_dtype(case.dtype))
                _repeat(view.as_bytes(), np.full(min(view.nbytes, PERIOD), spoilt, np.uint8))
        self.restore(case)

    def restore(self, case: Case) -> None:
        """The inputs again, where the calls replace them by what grows."""
        if not _grows(case):
            return
        firsts = self._views(self._first_inputs, case.input_elements, case)
        for first, x in zip(firsts, self.inputs(case), strict=True):
            _core.gpu_enqueue_copy(x.address, first.address, x.nbytes, STREAM_OF_THREAD)
        _core.gpu_synchronize(STREAM_OF_THREAD)

    def result(self, case: Case, index: int) -> Array:
        """What the seat's rank of this index has got, in the memory of the host."""
        view = (self.inputs if case.collective.in_place else self.outputs)(case)[index]
        host = np.empty(view.count, dtypes.numpy_dtype(view.dtype))
        _core.gpu_copy(host.ctypes.data, view.address, view.nbytes, STREAM_OF_THREAD)
        return host


def _grows(case: Case) -> bool:
    return case.collective.in_place and case.collective.reduces


def _repeat(view: View, block: Array) -> None:
    """Write `block` over and over: once from the host, then from what is there already."""
    done = min(block.nbytes, view.nbytes)
    _core.gpu_copy(view.address, block.ctypes.data, done, STREAM_OF_THREAD)
    while done < view.nbytes:
        more = min(done, view.nbytes - done)
        _core.gpu_enqueue_copy(view.address + done, view.address, more, STREAM_OF_THREAD)
        done += more
    _core.gpu_synchronize(STREAM_OF_THREAD)


def bytes_needed(cases: list[Case]) -> int:
    """What all ranks together allocate on their GPUs; rivals may need as much again."""
    inputs, outputs = largest(cases)
    copies = 2 if any(_grows(case) for case in cases) else 1
    return cases[0].world * (copies * inputs + outputs)
