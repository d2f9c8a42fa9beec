"""What run_local(device="cuda") and comm.empty(device="cuda") prepare for the libraries of a program."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import ringtree as rt
from contract.processes import run_processes
from gpu.devices import set_device
from gpu.worlds import variables_of_two_gpus
from ringtree import _core

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


def devices_of_ranks(comm: rt.Communicator) -> list[int]:
    set_device(1)
    return rt.run_local(3, lambda comm: _core.gpu_current(), device="cuda")


def test_ranks_work_on_the_gpu_of_their_caller() -> None:
    assert run_processes(1, devices_of_ranks, environment=variables_of_two_gpus())[0].result() == [1, 1, 1]


def one_rank_on_a_gpu() -> None:
    rt.run_local(1, lambda comm: None, device="cuda")


def test_ranks_get_all_queues_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUEUES, raising=False)
    one_rank_on_a_gpu()
    assert os.environ[QUEUES] == "32"


def test_ranks_that_must_share_queues_are_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUEUES, "1")
    one_rank_on_a_gpu()
    with pytest.warns(RuntimeWarning, match="2 ranks that are threads share 1 queues of the GPU.*=32 before"):
        rt.run_local(2, lambda comm: None, device="cuda")


def test_queues_of_a_cuda_that_has_started_are_as_many_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(QUEUES, raising=False)
    cuda = SimpleNamespace(is_initialized=lambda: True, is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with pytest.warns(RuntimeWarning, match="9 ranks that are threads share 8 queues"):
        rt.run_local(9, lambda comm: None, device="cuda")


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
