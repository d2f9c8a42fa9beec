"""Tensors on a GPU in ringtree's own calls, without torch.distributed: on Torch's streams, from its allocator."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringtree as rt
import torch
from contract.attempts import USABLE, attempt
from contract.cases import Result
from contract.reference import NUMPY_TYPES, Array
from gpu import calls
from gpu.attempts import NEEDS_A_STREAM
from gpu.gate import Gate
from torch_backend.ranks import run_ranks
from torch_gpu.tensors import make_torch_cuda_work, missing, to_gpu

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

DTYPES = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int64", "uint8", "bool")
COUNTS = (5, 1003, 0, 20_000, 64)
everywhere = pytest.mark.parametrize("where", ["threads", "processes"])

Rank = Callable[..., Any]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the processes of this test; this one does not touch a device."""
    if "RINGTREE_CUDA_LIBRARY" in os.environ:
        monkeypatch.setenv("RINGTREE_EMULATED_DEVICES", "2")
    elif torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")


def on_cpu(x: torch.Tensor) -> torch.Tensor:
    """First waits for the stream. Else the copy does, inside of CUDA, where it may hold up other threads."""
    torch.cuda.current_stream(x.device).synchronize()
    return x.cpu()


class Torch:
    """A `calls.Library`."""

    def on_gpu(self, values: Array) -> torch.Tensor:
        flat = torch.from_numpy(np.array(values).reshape(-1).view(np.uint8))
        return to_gpu(flat.view(getattr(torch, values.dtype.name))).view(values.shape)

    def on_host(self, array: torch.Tensor) -> Array:
        host: Array = on_cpu(array).view(-1).view(torch.uint8).numpy()
        return host.view(NUMPY_TYPES[str(array.dtype).removeprefix("torch.")]).reshape(array.shape)


def in_process(folder: str, function: Rank, *args: Any) -> Any:
    """A rank that is a process."""
    make_torch_cuda_work()
    with rt.init(rendezvous=f"file://{folder}", timeout=60) as comm:
        return function(comm, *args)


def in_threads(world: int, function: Rank, *args: Any) -> list[Any]:
    """All ranks, in a process that has not touched a device before."""
    make_torch_cuda_work()
    return rt.run_local(world, function, *args, device="cuda", timeout=60)


def run(where: str, world: int, function: Rank, *args: Any) -> list[Any]:
    """What `function(comm, *args)` returns on each rank."""
    if where == "threads":
        return list(run_ranks(1, in_threads, world, function, *args, join=False)[0])
    with tempfile.TemporaryDirectory(prefix="torch-rendezvous-") as folder:
        return run_ranks(world, in_process, folder, function, *args, join=False)


def run_every_call(comm: rt.Communicator, seed: int) -> list[Result]:
    return calls.run(comm, calls.cases(DTYPES, COUNTS, seed), Torch())


@everywhere
def test_every_call_gives_what_numpy_does(where: str) -> None:
    seed = int(np.random.default_rng().integers(2**32))
    calls.check_all(calls.cases(DTYPES, COUNTS, seed), run(where, 3, run_every_call, seed))


def exchange(comm: rt.Communicator, seed: int) -> None:
    for count in (1, 4096, 100_003):
        calls.exchange(comm, Torch(), count, seed)


@everywhere
def test_messages_arrive(where: str) -> None:
    run(where, 3, exchange, int(np.random.default_rng().integers(2**32)))


# Streams


def warm(comm: rt.Communicator, x: torch.Tensor) -> None:
    """Every kind of work once: CUDA may wait for the device when it loads something."""
    gathered = torch.zeros(comm.world_size * x.numel(), device=x.device)
    comm.all_reduce(x, out=torch.zeros_like(x))
    comm.all_gather(gathered, x)
    x.copy_(gathered[: x.numel()])
    x.fill_(-7)
    comm.synchronize()
    comm.barrier()


def follow(comm: rt.Communicator, of_program: bool) -> list[float]:
    """Work, a call and work again, none of which the stream has begun when the last is enqueued."""
    stream = torch.cuda.Stream() if of_program else torch.cuda.current_stream()
    with torch.cuda.stream(stream):
        source, x = to_gpu(torch.full((1000,), comm.rank + 1.0)), to_gpu(torch.zeros(1000))
        result = torch.zeros_like(x)
        warm(comm, x)
        with Gate(stream.cuda_stream):
            x.copy_(source)
            comm.all_reduce(x, out=result)
            x.copy_(result)
            comm.all_reduce(x)
            result.copy_(x)
            comm.barrier()  # of the hosts: all ranks have come so far
        found: list[float] = on_cpu(result).unique().tolist()
        return found


@everywhere
@pytest.mark.parametrize("of_program", [False, True])
def test_calls_run_on_the_current_stream(of_program: bool, where: str) -> None:
    assert run(where, 2, follow, of_program) == [[6.0]] * 2


def change_streams(comm: rt.Communicator) -> list[float]:
    """The second call takes what the first one leaves, which has not begun when it is made."""
    source, x = to_gpu(torch.full((1000,), comm.rank + 1.0)), to_gpu(torch.zeros(1000))
    gathered = to_gpu(torch.zeros(1000 * comm.world_size))
    warm(comm, x)
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    with Gate(first.cuda_stream):
        with torch.cuda.stream(first):
            x.copy_(source)
            comm.all_reduce(x)
        with torch.cuda.stream(second):
            comm.all_gather(gathered, x)
        comm.barrier()
    comm.synchronize()
    found: list[float] = on_cpu(gathered).unique().tolist()
    return found


@everywhere
def test_calls_on_two_streams_run_in_the_order_in_which_they_are_made(where: str) -> None:
    assert run(where, 2, change_streams) == [[3.0]] * 2


# What run_local and empty prepare


def own_streams(comm: rt.Communicator) -> tuple[int, int]:
    x = to_gpu(torch.full((10,), comm.rank + 1.0))
    comm.all_reduce(x)
    assert x.device.index == torch.cuda.current_device()
    assert (on_cpu(x) == sum(range(comm.world_size + 1))).all()
    return torch.cuda.current_stream().cuda_stream, torch.cuda.current_device()


def all_own_streams(device: int) -> tuple[list[tuple[int, int]], int, int]:
    make_torch_cuda_work()
    torch.cuda.set_device(device)
    before = torch.cuda.current_stream().cuda_stream
    found = rt.run_local(4, own_streams, device="cuda", timeout=60)
    return found, before, torch.cuda.current_stream().cuda_stream


def check_own_streams(device: int) -> None:
    ((found, before, after),) = run_ranks(1, all_own_streams, device, join=False)
    assert len({stream for stream, _ in found} | {0, 1, 2}) == 7
    assert {of_rank for _, of_rank in found} == {device}
    assert before == after == 0


def test_each_rank_of_run_local_has_a_stream_of_its_own() -> None:
    check_own_streams(0)


def test_ranks_of_run_local_work_on_the_gpu_that_is_current_in_torch(two_gpus: None) -> None:
    check_own_streams(1)


def fill_empty(comm: rt.Communicator) -> None:
    for shape, dtype in (
        ((3, 5), torch.float32),
        (100_000, torch.bfloat16),
        ((0, 4), torch.int64),
        ((), torch.half),
    ):
        x = comm.empty(shape, dtype, device="cuda")
        assert (x.is_cuda, x.dtype, x.shape) == (True, dtype, torch.zeros(shape).shape)
        assert (on_cpu(x) == 0).all()
        x.fill_(comm.rank + 1)
        comm.all_reduce(x)
        assert (on_cpu(x) == 3).all()


@everywhere
def test_empty_gives_zeros_of_torch_for_calls(where: str) -> None:
    run(where, 2, fill_empty)


# What is refused


def strided(comm: rt.Communicator) -> object:
    return comm.all_reduce(to_gpu(torch.ones(4, 5)).t())


def other_type(comm: rt.Communicator) -> object:
    return comm.all_reduce(to_gpu(torch.ones(8, dtype=torch.complex64)))


def of_autograd(comm: rt.Communicator) -> object:
    return comm.all_reduce(to_gpu(torch.ones(8)).requires_grad_())


def host_and_gpu(comm: rt.Communicator) -> object:
    return comm.all_gather(torch.ones(16), to_gpu(torch.ones(8)))


def other_stream(comm: rt.Communicator) -> object:
    """Beside an array whose stream is the thread's."""
    return comm.all_reduce(to_gpu(torch.ones(8)), out=rt.cuda.empty(8))


def default_stream(comm: rt.Communicator) -> object:
    with torch.cuda.stream(torch.cuda.default_stream()):
        return comm.all_reduce(to_gpu(torch.ones(8)))


def no_such_empty(comm: rt.Communicator) -> object:
    return comm.empty(8, torch.complex64, device="cuda")


THERE_ARE = f"there are {', '.join(rt.DTYPES)}"
REFUSED: dict[Callable[[rt.Communicator], object], str] = {
    strided: "all_reduce: x cannot take the result: it is not contiguous (shape (5, 4), strides (1, 5) elements); pass "
    "x.contiguous(), and copy a result back",
    other_type: f"all_reduce: x cannot take the result: its elements are complex64; {THERE_ARE}",
    of_autograd: "all_reduce: x cannot take the result: it requires grad, and autograd would not see that its values "
    "change; call this under torch.no_grad(), or pass x.detach()",
    host_and_gpu: "all_gather: all arrays of a call must be in one place, not on stream {stream} of GPU 0 and the CPU",
    other_stream: "all_reduce: all arrays of a call must be in one place, not on stream {stream} of GPU 0 and stream 2 "
    "of a GPU",
    default_stream: f"all_reduce: {NEEDS_A_STREAM}",
    no_such_empty: f"empty: there are no collectives of complex64; {THERE_ARE}",
}


def ask_all(comm: rt.Communicator) -> tuple[list[str], int]:
    said = []
    for call in REFUSED:
        tried = attempt(lambda: call(comm))  # noqa: B023 - made at once
        assert type(tried.error) is rt.InvalidArgument, repr(tried.error)
        said.append(str(tried.error))
        x = to_gpu(torch.full((10,), comm.rank + 1.0))
        comm.all_reduce(x)
        assert (on_cpu(x) == 3).all()
    return said, torch.cuda.current_stream().cuda_stream


def test_what_is_wrong_is_said_and_one_can_go_on() -> None:
    for rank, (said, stream) in enumerate(run("threads", 2, ask_all)):
        for text, expected in zip(said, REFUSED.values(), strict=True):
            assert text == f"rank {rank}, {expected.format(stream=stream)}. {USABLE}"


def use_default_stream(comm: rt.Communicator) -> float:
    x = to_gpu(torch.full((10,), comm.rank + 1.0))
    assert torch.cuda.current_stream().cuda_stream == 0
    comm.all_reduce(x)
    return float(on_cpu(x)[0])


def test_processes_may_use_the_default_stream() -> None:
    assert run("processes", 2, use_default_stream) == [3.0, 3.0]


def use_two_devices(comm: rt.Communicator) -> list[str]:
    with torch.cuda.device(1):
        there = to_gpu(torch.full((10,), comm.rank + 1.0))
        comm.all_reduce(there)
    here = to_gpu(torch.zeros(10))
    said = [
        str(attempt(lambda: comm.all_reduce(here)).error),
        str(attempt(lambda: comm.all_reduce(there, out=here)).error),
    ]
    with torch.cuda.stream(torch.cuda.Stream()):  # of device 0; the tensor goes on device 1's
        comm.all_reduce(there)
    comm.synchronize()
    assert (on_cpu(there) == 6).all()
    return said


def test_tensors_of_another_device_are_refused(two_gpus: None) -> None:
    for rank, (other, two) in enumerate(run("processes", 2, use_two_devices)):
        assert other == (
            f"rank {rank}, all_reduce: its arrays are on GPU 0, but this communicator has begun on GPU 1. {USABLE}"
        )
        assert two == (
            f"rank {rank}, all_reduce: all arrays of a call must be in one place, not on stream 0 of GPU 1 and "
            f"stream 0 of GPU 0. {USABLE}"
        )
