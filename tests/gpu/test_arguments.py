"""What is wrong with arrays and streams is said before anything is sent, and one can go on."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import USABLE, assert_error, attempt
from contract.processes import run_processes
from gpu.attempts import NEEDS_A_STREAM
from gpu.devices import set_device
from gpu.memory import View, empty, ones
from gpu.worlds import run_everywhere, run_threads, variables_of_two_gpus
from ringtree import _core

LEGACY_STREAM, STREAM_OF_THREAD = 1, 2


class Shown:
    """An object that says what it likes of its memory."""

    def __init__(self, **changes: Any) -> None:
        self.memory = rt.cuda.empty(64)
        self.__cuda_array_interface__ = {**self.memory.__cuda_array_interface__, **changes}


def on_stream(stream: int) -> View:
    x = ones()
    return View(x.whole, 0, 8, stream)


def host(count: int = 8) -> Any:
    return np.ones(count, np.float32)


Call = Callable[[rt.Communicator], object]

THERE_ARE = f"there are {', '.join(rt.DTYPES)}"

# Calls of a world of two, and what is said of them, whole.
REFUSED: dict[str, tuple[str, Call, str]] = {
    "CPU and GPU": (
        "all_reduce",
        lambda comm: comm.all_reduce(ones(), out=host()),
        "all arrays of a call must be in one place, not on stream 2 of a GPU and the CPU",
    ),
    "GPU and CPU": (
        "all_gather",
        lambda comm: comm.all_gather(host(16), ones()),
        "all arrays of a call must be in one place, not on stream 2 of a GPU and the CPU",
    ),
    "two streams": (
        "reduce_scatter",
        lambda comm: comm.reduce_scatter(ones(4), on_stream(7)),
        "all arrays of a call must be in one place, not on stream 7 of a GPU and stream 2 of a GPU",
    ),
    "strided": (
        "all_reduce",
        lambda comm: comm.all_reduce(Shown(shape=(4, 4), strides=(64, 4))),
        "x cannot take the result: it is not C-contiguous (shape (4, 4), strides (64, 4) bytes); pass a contiguous copy, "
        "and copy a result back",
    ),
    "read-only": (
        "all_reduce",
        lambda comm: comm.all_reduce(Shown(data=(1 << 20, True))),
        "x cannot take the result: its memory is read-only, and the result goes there; pass a copy",
    ),
    "type": (
        "all_reduce",
        lambda comm: comm.all_reduce(Shown(typestr="<c8")),
        f"x cannot take the result: its elements are complex64; {THERE_ARE}",
    ),
    "byte order": (
        "all_gather",
        lambda comm: comm.all_gather(ones(128), Shown(typestr=">f4")),
        "x cannot be sent: its elements are float32 in foreign byte order; pass x.astype(x.dtype.newbyteorder('='))",
    ),
    "memory of the host": (
        "all_reduce",
        lambda comm: comm.all_reduce(Shown(data=(host().ctypes.data, False))),
        "its arrays are not in the memory of a GPU",
    ),
    "size": (
        "all_gather",
        lambda comm: comm.all_gather(ones(15), ones()),
        "out is float32 x 15, but must have 16 elements: 2 times those of x",
    ),
    "overlap": (
        "all_to_all",
        lambda comm: comm.all_to_all(x := ones(), x),
        "x and out overlap in memory",
    ),
    "op": (
        "all_reduce",
        lambda comm: comm.all_reduce(ones(), "bxor"),
        "op bxor does not exist for float32: band, bor and bxor need integers or bool",
    ),
    "root": (
        "broadcast",
        lambda comm: comm.broadcast(ones(), 2),
        "root must be a rank of this world, 0 to 1, not 2",
    ),
    "algorithm": (
        "all_reduce",
        lambda comm: comm.all_reduce(ones(), algorithm="quickest"),
        f"there is no algorithm 'quickest'; there are {', '.join(['auto', *_core.algorithms('all_reduce')])}",
    ),
    "send": ("send", lambda comm: comm.send(ones(), 2), "to must be a rank of this world, 0 to 1, not 2"),
    "recv": ("recv", lambda comm: comm.recv(ones(), 2), "source must be a rank of this world, 0 to 1, not 2"),
    "sendrecv of two places": (
        "sendrecv",
        lambda comm: comm.sendrecv(ones(), np.ones(8, np.float32), to=1 - comm.rank, source=1 - comm.rank),
        f"all arrays of a call must be in one place, not on stream {STREAM_OF_THREAD} of a GPU and the CPU",
    ),
    "send on the default stream": (
        "send",
        lambda comm: comm.send(on_stream(LEGACY_STREAM), 1 - comm.rank),
        NEEDS_A_STREAM,
    ),
    "default stream": (
        "all_reduce",
        lambda comm: comm.all_reduce(on_stream(LEGACY_STREAM)),
        NEEDS_A_STREAM,
    ),
    "device": (
        "empty",
        lambda comm: comm.empty(8, device="tpu"),
        'device must be "cpu" or "cuda", not \'tpu\'',
    ),
    "type of empty": (
        "empty",
        lambda comm: comm.empty(8, "complex64", device="cuda"),
        f"there are no collectives of complex64; {THERE_ARE}",
    ),
}


def ask(comm: rt.Communicator, name: str, opened: bool) -> str:
    if opened:
        comm.all_reduce(ones())
    _, call, _ = REFUSED[name]
    tried = attempt(lambda: call(comm))
    assert type(tried.error) is rt.InvalidArgument, repr(tried.error)
    x, cpu = ones(), host()
    comm.all_reduce(x)
    comm.all_reduce(cpu)
    assert (np.asarray(x) == 2).all()
    assert (cpu == 2).all()
    return str(tried.error)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_with_rank_and_call_and_one_can_go_on(name: str, opened: bool) -> None:
    call, _, text = REFUSED[name]
    for rank, said in enumerate(run_threads(2, ask, name, opened)):
        assert said == f"rank {rank}, {call}: {text}. {USABLE}"


def use_the_default_stream(comm: rt.Communicator) -> float:
    x = on_stream(LEGACY_STREAM)
    comm.all_reduce(x)
    return float(np.asarray(x)[0])


def test_processes_may_use_the_default_stream() -> None:
    assert run_everywhere("processes", 2, use_the_default_stream) == [2.0, 2.0]


def gather_nothing(comm: rt.Communicator) -> None:
    """CuPy and Numba show arrays without elements as a null pointer, others as any."""
    n = comm.world_size
    for pointer in (0, 1 << 20):
        nothing = Shown(shape=(0,), data=(pointer, False))
        comm.all_reduce(nothing)
        comm.all_gather(nothing, nothing)
        counts = [0] * n
        counts[-1] = 3
        out = empty(3)
        own = ones(3) if comm.rank == n - 1 else nothing
        comm.all_gather_v(out, own, counts)
        assert (np.asarray(out) == 1).all()


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_arrays_without_elements_may_point_anywhere(where: str) -> None:
    run_everywhere(where, 2, gather_nothing)


def use_two_devices(comm: rt.Communicator) -> list[str]:
    """In processes: each sees two devices."""
    set_device(1)
    there = ones()
    there_alone = attempt(lambda: comm.all_reduce(there))
    assert there_alone.error is None  # the communicator begins on this device
    comm.synchronize()
    set_device(0)
    texts = []
    for call in (
        lambda: comm.all_reduce(ones()),
        lambda: comm.all_reduce(ones(), out=there),
        lambda: comm.all_reduce(there, out=ones()),
    ):
        error = attempt(call).error
        assert_error(error, rt.InvalidArgument, f"rank {comm.rank}, all_reduce: ", USABLE)
        texts.append(str(error).removeprefix(f"rank {comm.rank}, all_reduce: ").removesuffix(f" {USABLE}"))
    comm.all_reduce(there)
    assert (np.asarray(there) == 4).all()
    return texts


def test_arrays_of_another_device_are_refused() -> None:
    for outcome in run_processes(2, use_two_devices, environment=variables_of_two_gpus()):
        other, target, source = outcome.result()
        assert other == "its arrays are on GPU 0, but this communicator has begun on GPU 1."
        assert target == "its arrays are on GPU 0 and on GPU 1."
        assert source == "its arrays are on GPU 1 and on GPU 0."


WITHOUT = """
import numpy as np
import ringtree as rt

with rt.init() as comm:
    for call in (
        lambda: comm.empty(8, device="cuda"), rt.cuda.device_count, rt.cuda.device_name, lambda: rt.cuda.empty(8),
        lambda: rt.cuda.VirtualRanks(2),
    ):
        try:
            call()
        except rt.TransportError as error:
            print(error)
    class Array:
        __cuda_array_interface__ = {
            "shape": (8,), "typestr": "<f4", "data": (1 << 20, False), "strides": None, "version": 3,
        }
    try:
        comm.all_reduce(Array())
    except rt.TransportError as error:
        print(error)
    x = np.ones(8)
    comm.all_reduce(x)
    print(x.sum())
"""


def test_without_the_library_one_is_told_what_to_do_and_the_cpu_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={**os.environ, "RINGTREE_CUDA_LIBRARY": "/nonexistent", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    empty, *plain, all_reduce, total = done.stdout.splitlines()
    why = (
        r"ringtree's CUDA fabric cannot be loaded \(/nonexistent: cannot open shared object file: .*\): "
        r"install ringtree where CUDA's compiler, nvcc, is found \(docs/gpu\.md\)"
    )
    assert re.fullmatch(rf"rank 0, empty: {why}\. {re.escape(USABLE)}", empty)
    assert len(plain) == 4
    for text in plain:
        assert re.fullmatch(why, text)
    assert re.fullmatch(rf"rank 0, all_reduce: {why}\. {re.escape(USABLE)}", all_reduce)
    assert total == "8.0"


def test_run_local_names_the_devices_there_are() -> None:
    with pytest.raises(rt.InvalidArgument, match='run_local: device must be "cpu" or "cuda", not \'gpu\''):
        rt.run_local(2, lambda comm: None, device="gpu")
