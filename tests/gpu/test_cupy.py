"""Calls on arrays of CuPy: on its current stream, between threads and processes. See cupy_here.py."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import USABLE, attempt
from contract.cases import Case, Result
from contract.processes import run_processes
from contract.reference import NUMPY_TYPES, Array
from gpu import calls
from gpu.attempts import NEEDS_A_STREAM
from gpu.cupy_here import import_cupy, skip_without
from gpu.devices import emulated
from gpu.gate import Gate
from gpu.worlds import in_threads_and_processes, run_everywhere, run_threads, variables_of_two_gpus

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
COUNTS = (5, 1003, 0, 20_000, 64)


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    """What `import cupy` gives, until the test is over."""
    skip_without()
    with pytest.MonkeyPatch.context() as patch:
        if emulated() is not None:
            from gpu import emulated_cupy

            patch.setitem(sys.modules, "cupy", emulated_cupy.module())
        yield import_cupy()
        import_cupy().get_default_memory_pool().free_all_blocks()


class Cupy:
    """A `calls.Library`."""

    def on_gpu(self, values: Array) -> Any:
        array = import_cupy().empty(values.shape, values.dtype)
        import_cupy().cuda.get_current_stream().synchronize()
        array.set(values)
        return array

    def on_host(self, array: Any) -> Array:
        # Else the copy, which waits inside of CUDA, may hold up ranks that are threads: docs/gpu.md.
        import_cupy().cuda.get_current_stream().synchronize()
        host: Array = array.get()
        return host


def has(dtype: str) -> bool:
    """Whether CuPy has such arrays."""
    return dtype != "bfloat16" or int(import_cupy().__version__.partition(".")[0]) >= 14


on_gpu, on_host = Cupy().on_gpu, Cupy().on_host


def cases(seed: int) -> list[Case]:
    return calls.cases([dtype for dtype in DTYPES if has(dtype)], COUNTS, seed)


def run_every_call(comm: rt.Communicator, seed: int) -> list[Result]:
    return calls.run(comm, cases(seed), Cupy())


@in_threads_and_processes
def test_every_call_gives_what_numpy_does(where: str) -> None:
    seed = int(np.random.default_rng().integers(2**32))
    calls.check_all(cases(seed), run_everywhere(where, 3, run_every_call, seed))


def exchange(comm: rt.Communicator, seed: int) -> None:
    import_cupy()
    for count in (1, 4096, 100_003):
        calls.exchange(comm, Cupy(), count, seed)


@in_threads_and_processes
def test_messages_arrive(where: str) -> None:
    run_everywhere(where, 3, exchange, int(np.random.default_rng().integers(2**32)))


# Streams


def ranks_to(comm: rt.Communicator, count: int = 1000) -> tuple[Any, Any, Any]:
    """An array that holds this rank, another that holds nothing of use, and one for what comes of them."""
    ranks = np.full(count, comm.rank + 1, np.float32)
    return on_gpu(ranks), on_gpu(np.full(count, -7, np.float32)), on_gpu(np.full(count, -9, np.float32))


def warm(comm: rt.Communicator) -> None:
    """Every kind of work once: CUDA may wait for the device when it loads something."""
    source, x, result = ranks_to(comm)
    x[...] = source
    comm.all_reduce(x, out=result)
    comm.all_reduce(x)
    comm.all_gather(on_gpu(np.zeros(1000 * comm.world_size, np.float32)), x)
    comm.synchronize()
    comm.barrier()


def follow(comm: rt.Communicator, of_program: bool) -> list[float]:
    """Work, a call and work again, none of which the stream has begun when the last is enqueued."""
    cupy = import_cupy()
    stream = cupy.cuda.Stream(non_blocking=True) if of_program else cupy.cuda.get_current_stream()
    with stream:
        warm(comm)
        source, x, result = ranks_to(comm)
        with Gate(stream.ptr):
            x[...] = source
            comm.all_reduce(x, out=result)
            x[...] = result
            comm.all_reduce(x)
            result[...] = x
            comm.barrier()  # of the hosts: all ranks have come so far
        return [float(value) for value in np.unique(on_host(result))]


@in_threads_and_processes
@pytest.mark.parametrize("of_program", [False, True])
def test_calls_run_on_the_current_stream(of_program: bool, where: str) -> None:
    assert run_everywhere(where, 2, follow, of_program) == [[6.0]] * 2


def drop(comm: rt.Communicator) -> list[float]:
    """An array whose memory the pool gives to another one while the call has not begun."""
    cupy = import_cupy()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        warm(comm)
        source, x, result = ranks_to(comm)
        with Gate(stream.ptr):
            x[...] = source
            comm.all_reduce(x, out=result)
            address = x.data.ptr
            del x
            y = cupy.empty(1000, np.float32)
            if emulated() is not None:
                assert y.data.ptr == address
            y[...] = result
            comm.barrier()
        return [float(value) for value in np.unique(on_host(result))]


@in_threads_and_processes
def test_an_array_may_be_dropped_once_its_call_is_made(where: str) -> None:
    assert run_everywhere(where, 2, drop) == [[3.0]] * 2


def change_streams(comm: rt.Communicator) -> list[float]:
    """The second call takes what the first one leaves, whose stream has gone before it begins."""
    cupy = import_cupy()
    warm(comm)
    source, x, _ = ranks_to(comm)
    gathered = on_gpu(np.zeros(1000 * comm.world_size, np.float32))
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with Gate(first.ptr):
        with first:
            x[...] = source
            comm.all_reduce(x)
        del first
        with second:
            comm.all_gather(gathered, x)
            comm.barrier()
    comm.synchronize()
    return [float(value) for value in np.unique(on_host(gathered))]


@in_threads_and_processes
def test_calls_on_two_streams_run_in_the_order_in_which_they_are_made(where: str) -> None:
    assert run_everywhere(where, 2, change_streams) == [[3.0]] * 2


def use_named_streams(comm: rt.Communicator) -> list[float]:
    cupy = import_cupy()
    found = []
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream.ptds):
        with stream:
            x, _, _ = ranks_to(comm)
            comm.all_reduce(x)
            found.append(float(on_host(x)[0]))
    return found


def test_processes_may_use_the_null_stream_and_that_of_the_thread() -> None:
    assert run_everywhere("processes", 2, use_named_streams) == [[3.0, 3.0]] * 2


# What run_local and empty prepare


def own_streams(comm: rt.Communicator) -> tuple[int, int]:
    cupy = import_cupy()
    stream, device = cupy.cuda.get_current_stream().ptr, cupy.cuda.Device().id
    x, _, _ = ranks_to(comm)
    comm.all_reduce(x)
    assert (on_host(x) == sum(range(comm.world_size + 1))).all()
    assert x.device.id == device
    return stream, device


def test_each_rank_of_run_local_has_a_stream_of_its_own(cupy: Any) -> None:
    before = cupy.cuda.get_current_stream().ptr
    found = run_threads(4, own_streams)
    assert len({stream for stream, _ in found}) == 4
    assert min(stream for stream, _ in found) > 2  # no default one
    assert {device for _, device in found} == {0}
    assert cupy.cuda.get_current_stream().ptr == before


def on_the_second_device(_: rt.Communicator) -> list[int]:
    import_cupy().cuda.Device(1).use()
    return [device for _, device in run_threads(3, own_streams)]


def test_ranks_of_run_local_work_on_the_gpu_that_is_current_in_cupy() -> None:
    assert run_processes(1, on_the_second_device, environment=variables_of_two_gpus())[0].result() == [1] * 3


def fill_empty(comm: rt.Communicator) -> None:
    cupy = import_cupy()
    for shape, dtype in (((3, 5), "float32"), (100_000, "bfloat16"), ((0, 4), "int64"), ((), "float64")):
        if not has(dtype):
            continue
        x = comm.empty(shape, dtype, device="cuda")
        assert type(x) is cupy.ndarray
        expected = np.zeros(shape, NUMPY_TYPES[dtype])
        assert (x.shape, x.dtype) == (expected.shape, expected.dtype)
        assert on_host(x).tobytes() == expected.tobytes()
        x.set(np.full(shape, comm.rank + 1, NUMPY_TYPES[dtype]))
        comm.all_reduce(x)
        assert (on_host(x) == 3).all()


@in_threads_and_processes
def test_empty_gives_zeros_of_cupy_for_calls(where: str) -> None:
    run_everywhere(where, 2, fill_empty)


# What is refused


def strided(comm: rt.Communicator) -> object:
    return comm.all_reduce(on_gpu(np.ones((4, 5), np.float32)).T)


def other_type(comm: rt.Communicator) -> object:
    return comm.all_gather(on_gpu(np.ones(16, np.complex64)), on_gpu(np.ones(8, np.complex64)))


def other_stream(comm: rt.Communicator) -> object:
    """Beside an array whose stream is the thread's."""
    of_nobody = rt.cuda.DeviceArray((8,), np.dtype("float32"))
    return comm.all_reduce(on_gpu(np.ones(8, np.float32)), out=of_nobody)


def null_stream(comm: rt.Communicator) -> object:
    with import_cupy().cuda.Stream.null:
        return comm.all_reduce(on_gpu(np.ones(8, np.float32)))


def on_the_host_too(comm: rt.Communicator) -> object:
    return comm.sendrecv(
        on_gpu(np.ones(8, np.float32)), np.ones(8, np.float32), to=1 - comm.rank, source=1 - comm.rank
    )


REFUSED: dict[Callable[[rt.Communicator], object], str] = {
    strided: "all_reduce: x cannot take the result: it is not C-contiguous (shape (5, 4), strides (4, 20) bytes); pass a "
    "contiguous copy, and copy a result back",
    other_type: f"all_gather: out cannot take the result: its elements are complex64; there are {', '.join(rt.DTYPES)}",
    other_stream: "all_reduce: all arrays of a call must be in one place, not on stream {stream} of a GPU and stream 2 of a "
    "GPU",
    null_stream: f"all_reduce: {NEEDS_A_STREAM}",
    on_the_host_too: "sendrecv: all arrays of a call must be in one place, not on stream {stream} of a GPU and the CPU",
}


def ask(comm: rt.Communicator, call: Callable[[rt.Communicator], object]) -> tuple[str, int]:
    tried = attempt(lambda: call(comm))
    assert type(tried.error) is rt.InvalidArgument, repr(tried.error)
    x, _, _ = ranks_to(comm)
    comm.all_reduce(x)
    assert (on_host(x) == 3).all()
    return str(tried.error), import_cupy().cuda.get_current_stream().ptr


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.__name__)
def test_what_is_wrong_is_said_and_one_can_go_on(call: Callable[[rt.Communicator], object]) -> None:
    for rank, (said, stream) in enumerate(run_threads(2, ask, call)):
        assert said == f"rank {rank}, {REFUSED[call].format(stream=stream)}. {USABLE}"


def use_two_devices(comm: rt.Communicator) -> list[str]:
    cupy = import_cupy()
    with cupy.cuda.Device(1):
        there, _, _ = ranks_to(comm)
        comm.all_reduce(there)
    here, _, _ = ranks_to(comm)
    said = [
        str(attempt(lambda call=call: call()).error)  # type: ignore[misc]
        for call in (lambda: comm.all_reduce(here), lambda: comm.all_reduce(there, out=here))
    ]
    with cupy.cuda.Stream(non_blocking=True):  # of device 0; the array goes on device 1's
        comm.all_reduce(there)
    comm.synchronize()
    with cupy.cuda.Device(1):
        assert (on_host(there) == 6).all()
    return said


def test_arrays_of_another_device_are_refused_and_those_of_the_communicators_go_on_its_stream() -> None:
    for rank, outcome in enumerate(run_processes(2, use_two_devices, environment=variables_of_two_gpus())):
        other, two = outcome.result()
        assert (
            other
            == f"rank {rank}, all_reduce: its arrays are on GPU 0, but this communicator has begun on GPU 1. {USABLE}"
        )
        assert two == f"rank {rank}, all_reduce: its arrays are on GPU 1 and on GPU 0. {USABLE}"
