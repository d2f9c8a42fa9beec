"""Arrays whose memory CUDA's virtual memory management made, as PyTorch's expandable segments are: in chunks.

Ranks that are processes come to reach them by file descriptor, and threads do by address. By the results alone a
caller cannot tell; on the emulated device the chunks show that a process has mapped.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from gpu.devices import driver, emulated, held
from gpu.memory import same
from gpu.worlds import in_threads_and_processes, run_everywhere
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD

GRANULE = 2 << 20
BY_DESCRIPTOR, NOT_SHARED = 1, 0


class Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", Location),
        ("for_windows", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", Location), ("flags", ctypes.c_int))


def call(name: str, *args: Any) -> None:
    function = getattr(emulated() or driver(), name)
    assert function(*args) == 0, name


class Chunks:
    """Addresses for `chunks` granules, each of which has physical memory of its own."""

    def __init__(self, chunks: int, handle_types: int = BY_DESCRIPTOR) -> None:
        _core.gpu_allocate(1)  # makes the device's context the thread's
        self.count, self.handle_types = chunks, handle_types
        base = ctypes.c_uint64()
        call(
            "cuMemAddressReserve",
            ctypes.byref(base),
            self.size(chunks),
            self.size(0),
            ctypes.c_uint64(0),
            self.size(0),
        )
        self.base = base.value
        for chunk in range(chunks):
            self.map(chunk)

    @staticmethod
    def size(chunks: int) -> ctypes.c_size_t:
        return ctypes.c_size_t(chunks * GRANULE)

    def address(self, chunk: int) -> ctypes.c_uint64:
        return ctypes.c_uint64(self.base + chunk * GRANULE)

    def map(self, chunk: int) -> None:
        on_device = Location(1, 0)
        handle, zero, one = ctypes.c_uint64(), ctypes.c_size_t(0), self.size(1)
        properties = Properties(1, self.handle_types, on_device)
        call("cuMemCreate", ctypes.byref(handle), one, ctypes.byref(properties), ctypes.c_uint64(0))
        call("cuMemMap", self.address(chunk), one, zero, handle, ctypes.c_uint64(0))
        call("cuMemRelease", handle)  # the mapping keeps it
        access = Access(on_device, 3)
        call("cuMemSetAccess", self.address(chunk), one, ctypes.byref(access), ctypes.c_size_t(1))

    def replace(self, chunk: int) -> None:
        """With other memory at the same addresses."""
        call("cuMemUnmap", self.address(chunk), self.size(1))
        self.map(chunk)

    def free(self) -> None:
        call("cuMemUnmap", self.address(0), self.size(self.count))
        call("cuMemAddressFree", self.address(0), self.size(self.count))


class Slice:
    """`count` float32 from `skipped` bytes on."""

    def __init__(self, chunks: Chunks, skipped: int, count: int) -> None:
        self.address, self.shape = chunks.base + skipped, (count,)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": "<f4",
            "data": (self.address, False),
            "version": 3,
            "stream": STREAM_OF_THREAD,
        }

    def set(self, values: Any) -> None:
        host = np.ascontiguousarray(np.broadcast_to(np.float32(values), self.shape))
        _core.gpu_copy(self.address, host.ctypes.data, host.nbytes, STREAM_OF_THREAD)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        host = np.empty(self.shape, np.float32)
        _core.gpu_copy(host.ctypes.data, self.address, host.nbytes, STREAM_OF_THREAD)
        return host if dtype is None else host.astype(dtype)


@contextmanager
def chunks(count: int, handle_types: int = BY_DESCRIPTOR) -> Iterator[Chunks]:
    made = Chunks(count, handle_types)
    try:
        yield made
    finally:
        made.free()


def sums(comm: rt.Communicator, x: Slice) -> None:
    """Three times: peers map what is new from the second call on."""
    ranks = comm.world_size
    for turn in range(3):
        x.set(np.arange(x.shape[0]) % 97 + comm.rank + turn)
        comm.all_reduce(x, algorithm="zero_copy")
        expected = (np.arange(x.shape[0]) % 97 + turn) * ranks + ranks * (ranks - 1) / 2
        assert same(x, expected.astype(np.float32))


def foreign_chunks(own: int) -> int | None:
    """Of peers, that this process has mapped; None where nobody counts."""
    return held()["chunks"] - own if emulated() else None


def reduce_slices(comm: rt.Communicator) -> int | None:
    with chunks(3) as memory:
        for skipped, count in ((0, 1000), (12, 1001), (GRANULE - 400, 5003), (GRANULE - 4, 2 + GRANULE // 4)):
            sums(comm, Slice(memory, skipped, count))
        comm.barrier()
        mapped = foreign_chunks(3)
        comm.close()
    return mapped


@in_threads_and_processes
def test_slices_of_chunks_are_reduced_wherever_they_lie(where: str) -> None:
    world = 3
    mapped = run_everywhere(where, world, reduce_slices)
    if emulated() and where == "processes":
        runs = 1 + 2 + 3  # chunks of the first, the first two and all three
        assert mapped == [runs * (world - 1)] * world


def replace_chunks(comm: rt.Communicator) -> None:
    with chunks(2) as memory:
        x = Slice(memory, GRANULE - 400, 1000)
        for turn in range(3):
            sums(comm, x)
            comm.synchronize()
            if comm.rank == 0:
                memory.replace(turn % 2)
        comm.close()


@in_threads_and_processes
def test_other_memory_at_the_same_addresses_is_told_from_what_was_there(where: str) -> None:
    run_everywhere(where, 2, replace_chunks)


def reduce_private(comm: rt.Communicator) -> int | None:
    with chunks(2, NOT_SHARED) as memory:
        sums(comm, Slice(memory, GRANULE - 400, 1000))
        comm.barrier()
        mapped = foreign_chunks(2)
        comm.close()
    return mapped


def test_memory_without_a_descriptor_to_be_had_goes_through_the_links() -> None:
    assert set(run_everywhere("processes", 2, reduce_private)) <= {0, None}


def close_again_and_again(comm: rt.Communicator) -> list[dict[str, int]]:
    """What is held after each life of a group."""
    after = []
    for _ in range(4):
        group = comm.split(0)
        assert group is not None
        with group, chunks(2) as memory:
            sums(group, Slice(memory, GRANULE - 400, 1000))
            group.close()
        after.append({what: held()[what] for what in ("memory handles", "reservations", "chunks")})
    return after


@pytest.mark.skipif(emulated() is None, reason="a real device does not say what a process has mapped")
def test_a_communicator_that_is_closed_holds_no_memory_of_chunks() -> None:
    for after in run_everywhere("processes", 2, close_again_and_again):
        assert after == [{"memory handles": 0, "reservations": 0, "chunks": 0}] * 4
