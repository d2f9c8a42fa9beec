"""What run_local(device="cuda") and comm.empty(device="cuda") prepare for the libraries of a program."""

import os
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import ringtree as rt
from contract.processes import run_processes
from gpu.attempts import warm
from gpu.devices import has_begun, set_device
from gpu.memory import on_gpu
from gpu.worlds import run_threads, variables_of_two_gpus
from ringtree import _core
from ringtree.cuda import streams

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


def devices_of_ranks(comm: rt.Communicator) -> list[int]:
    set_device(1)
    return rt.run_local(3, lambda comm: _core.gpu_current(), device="cuda")


def test_ranks_work_on_the_gpu_of_their_caller() -> None:
    assert run_processes(1, devices_of_ranks, environment=variables_of_two_gpus())[0].result() == [1, 1, 1]


def work_in_a_fresh_thread(comm: rt.Communicator) -> bool:
    set_device(1)
    x = [on_gpu(np.full(100_000, comm.rank, np.float32))]

    def work() -> None:
        for _ in range(3):
            comm.all_reduce(x[0])
        comm.synchronize()
        x.clear()  # frees it

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not x
    comm.close()
    return has_begun(0)


def test_threads_that_have_set_no_gpu_start_cuda_on_no_other() -> None:
    outcomes = run_processes(2, work_in_a_fresh_thread, environment=variables_of_two_gpus())
    assert [outcome.result() for outcome in outcomes] == [False, False]


AT_MOST = 64  # calls that a rank may be ahead: GpuAhead::kMost


def run_ahead(comm: rt.Communicator, made: list[int]) -> tuple[int, float]:
    """How many calls the first rank had made when the other made its first one; the result of the last."""
    calls = 1500
    warm(comm)
    x = on_gpu(np.full(3, comm.rank, np.float64))
    before = 0
    if comm.rank == 0:
        for _ in range(calls):
            comm.all_reduce(x, op="avg")
            made[0] += 1
    else:
        while made[0] < AT_MOST:
            time.sleep(0)  # for the other thread
        before = made[0]
        for _ in range(calls):
            comm.all_reduce(x, op="avg")
    comm.synchronize()
    return before, float(np.asarray(x)[0])


def test_a_rank_runs_ahead_no_further_than_leaves_others_room() -> None:
    """The queue of a stream holds a thousand kernels and events; one that finds it full holds up all threads."""
    first, other = run_threads(2, run_ahead, [0])
    assert other[0] <= AT_MOST
    assert (first[1], other[1]) == (0.5, 0.5)


def one_rank_on_a_gpu() -> None:
    rt.run_local(1, lambda comm: None, device="cuda")


def test_ranks_get_all_queues_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUEUES, raising=False)
    monkeypatch.setattr(streams, "_has_started", lambda: False)
    one_rank_on_a_gpu()
    assert os.environ[QUEUES] == "32"


def test_ranks_that_must_share_queues_are_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUEUES, "2")
    one_rank_on_a_gpu()
    with pytest.warns(
        RuntimeWarning, match="2 ranks that are threads, and ringtree itself, share 2 queues of.*=32"
    ):
        rt.run_local(2, lambda comm: None, device="cuda")


def test_queues_of_a_cuda_that_has_started_are_as_many_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUEUES, raising=False)
    monkeypatch.setattr(streams, "_has_started", lambda: True)
    with pytest.warns(RuntimeWarning, match="8 ranks that are threads, and ringtree itself, share 8 queues"):
        rt.run_local(8, lambda comm: None, device="cuda")
    assert QUEUES not in os.environ


@pytest.mark.parametrize(
    ("shape", "dtype", "room"),
    [
        pytest.param((3, 5), "float16", 30, id="small"),
        pytest.param(100_000, "float32", 2 << 20, id="mapped"),
        pytest.param((0, 4), "int64", 0, id="empty"),
    ],
)
def test_with_cupy_arrays_have_room_to_be_mapped(
    monkeypatch: pytest.MonkeyPatch, shape: int | tuple[int, ...], dtype: str, room: int
) -> None:
    """NumPy in CuPy's place."""
    allocated = []

    def zeros(count: int, dtype: type) -> "np.ndarray":  # type: ignore[type-arg]
        allocated.append(count)
        return np.zeros(count, dtype)

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(zeros=zeros))
    array = rt.cuda.empty(shape, dtype)
    assert (array.shape, array.dtype) == (np.empty(shape).shape, np.dtype(dtype))
    assert allocated == [room]
