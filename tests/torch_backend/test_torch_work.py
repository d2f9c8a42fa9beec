"""What a call returns: when it is finished, its future, its error, the profiler's event; groups and their ends."""

import gc
import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ringtree._core import observe
from torch._C._distributed_c10d import ErrorType
from torch_backend.ranks import TorchRanks, run_ranks

FROM_CPP = Path(__file__).parents[2] / "build/release/tests/cpp/libringtree_torch_from_cpp.so"


def asynchronous() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    works, tensors = [], [torch.full((1000,), float(rank + i)) for i in range(20)]
    for x in tensors:
        works.append(dist.all_reduce(x, async_op=True))
    for work in reversed(works):
        assert work.wait()
        assert work.is_completed()
        assert work.is_success()
    for i, x in enumerate(tensors):
        assert (x == sum(range(n)) + n * i).all()
    assert works[0].result()[0] is not None


def test_asynchronous_calls_run_in_order_and_are_waited_for_in_any() -> None:
    run_ranks(2, asynchronous)


def it_returns_at_once() -> float:
    """Rank 1 comes late."""
    if dist.get_rank() == 1:
        dist.recv(torch.empty(1), 0)
    began = time.monotonic()
    work = dist.all_reduce(torch.ones(1 << 20), async_op=True)
    elapsed = time.monotonic() - began
    if dist.get_rank() == 0:
        assert not work.is_completed()
        dist.send(torch.ones(1), 1)
    work.wait()
    return elapsed


def test_an_asynchronous_call_returns_before_its_peers_have_called() -> None:
    run_ranks(2, it_returns_at_once)


def futures() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    x = torch.full((10,), float(rank))
    future = dist.all_reduce(x, async_op=True).get_future()
    doubled = future.then(lambda done: 2 * done.value()[0])
    assert (doubled.wait() == 2 * sum(range(n))).all()
    finished = dist.all_reduce(torch.ones(1), async_op=True)
    finished.wait()
    assert finished.get_future().done()
    assert finished.get_future().value()[0].item() == n


def test_futures_chain() -> None:
    run_ranks(2, futures)


def patience() -> str:
    rank = dist.get_rank()
    x = torch.ones(1)
    text = ""
    if rank == 1:
        dist.recv(torch.empty(1), 0)
    work = dist.all_reduce(x, async_op=True)
    if rank == 0:
        with pytest.raises(dist.DistBackendError) as raised:
            work.wait(timedelta(seconds=0.05))
        text = str(raised.value)
        dist.send(torch.ones(1), 1)
    work.wait()
    assert x.item() == 2
    return text


def test_wait_with_a_timeout_leaves_the_call_alone() -> None:
    text, _ = run_ranks(2, patience)
    assert "ALLREDUCE #1 was not finished within the 50 ms" in text


def profiled() -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        dist.all_reduce(torch.ones(3))
        dist.broadcast(torch.ones(3), 0)
    return sorted(event.name for event in profile.events() if event.name.startswith("ringtree:"))


def test_the_profiler_sees_each_call() -> None:
    assert run_ranks(2, profiled) == [["ringtree:all_reduce", "ringtree:broadcast"]] * 2


def groups() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    evens = dist.new_group([0, 2], backend="ringtree")
    everybody = dist.new_group(timeout=timedelta(seconds=7))
    x = torch.ones(1)
    dist.all_reduce(x, group=everybody)
    assert x.item() == n
    if rank in (0, 2):
        y = torch.tensor([float(rank)])
        dist.all_reduce(y, group=evens)
        assert y.item() == 2
        dist.broadcast(y, 2, group=evens)
        assert dist.get_world_size(evens) == 2
    mesh = dist.device_mesh.init_device_mesh("cpu", (n,), mesh_dim_names=("data",))
    z = torch.ones(1)
    dist.all_reduce(z, group=mesh.get_group("data"))
    assert z.item() == n
    dist.barrier()


def test_groups_and_meshes() -> None:
    run_ranks(3, groups)


def interpreter_is_free() -> int:
    """While rank 0 waits for rank 1, another thread of rank 0 works."""
    if dist.get_rank() == 1:
        dist.recv(torch.empty(1), 0)
        dist.barrier()
        return 1
    counted = 0
    over = threading.Event()

    def count() -> None:
        nonlocal counted
        while counted < 1000:
            counted += 1
        dist.send(torch.ones(1), 1)
        over.set()

    threading.Thread(target=count).start()
    dist.barrier()
    assert over.wait(10)
    return counted


def test_waiting_does_not_hold_the_interpreters_lock() -> None:
    assert run_ranks(2, interpreter_is_free)[0] == 1000


def holdings() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def many_groups() -> None:
    dist.destroy_process_group(dist.new_group())
    gc.collect()
    before = holdings()
    for _ in range(100):
        group = dist.new_group()
        dist.all_reduce(torch.ones(1), group=group, async_op=True).wait()
        dist.destroy_process_group(group)
    gc.collect()
    assert holdings() == before


def test_groups_leave_nothing_behind() -> None:
    before = set(os.listdir("/dev/shm"))
    run_ranks(2, many_groups)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("ringtree-")]


def monitored(missing: list[int]) -> str:
    if dist.get_rank() in missing:
        return ""
    try:
        # dist.monitored_barrier itself asks for the name gloo.
        dist.distributed_c10d._get_default_group().monitored_barrier(
            timeout=timedelta(seconds=0.3), wait_all_ranks=True
        )
    except RuntimeError as error:
        return str(error)
    return "passed"


def test_a_monitored_barrier_names_who_is_missing() -> None:
    assert run_ranks(3, monitored, []) == ["passed"] * 3
    first, second, _ = run_ranks(3, monitored, [2])
    assert "Rank 2 failed to pass monitoredBarrier in 300 ms" in first
    assert "Rank 2 failed to pass monitoredBarrier" in second
    first, _, _ = run_ranks(3, monitored, [1, 2])
    assert "Ranks 1, 2 failed to pass monitoredBarrier" in first


def in_blocks() -> tuple[str, int]:
    """The algorithm of the last call, and how many blocks of peers are mapped."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    assert backend.supports_tensor_alloc(torch.device("cpu"))
    x = backend.allocate_tensor(1 << 20, dtype=torch.float32, device=torch.device("cpu"))
    for _ in range(20):
        x.fill_(dist.get_rank() + 1)
        dist.all_reduce(x)
    assert (x == 3).all()
    board = json.loads(observe(os.getpid())[0])["ranks"][dist.get_rank()]
    return board["calls"][-1]["algorithm"], Path("/proc/self/maps").read_text().count("/memfd:ringtree")


def test_tensors_of_the_group_are_reduced_where_they_lie() -> None:
    for algorithm, blocks in run_ranks(2, in_blocks):
        assert algorithm == "zero_copy"
        assert blocks >= 2


def in_memory_from_cpp() -> tuple[str, bool]:
    """As the above, of Backend::getMemAllocator, which has no name in Python."""
    torch.ops.load_library(str(FROM_CPP))
    group = dist.distributed_c10d._get_default_group().boxed()
    x = torch.ops.ringtree_test.allocate(group, 4 << 20).view(torch.float32)
    for _ in range(20):
        x.fill_(dist.get_rank() + 1)
        dist.all_reduce(x)
    assert (x == 3).all()
    board = json.loads(observe(os.getpid())[0])["ranks"][dist.get_rank()]
    copies = torch.ops.ringtree_test.copies(group, x, torch.arange(float(x.numel())))
    return board["calls"][-1]["algorithm"], copies


def test_memory_of_the_allocator_for_cpp_is_reduced_where_it_lies() -> None:
    assert FROM_CPP.exists(), f"{FROM_CPP} is not built: make test-gpu does that"
    assert run_ranks(2, in_memory_from_cpp) == [("zero_copy", True)] * 2


def blocks_of_tensors() -> list[bool]:
    """Whether a second tensor gets the memory of the first: while a view of it lives, and after that."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))

    def allocate() -> torch.Tensor:
        return backend.allocate_tensor(1 << 20, dtype=torch.float32, device=torch.device("cpu"))

    first = allocate()
    address, view = first.data_ptr(), first[1:]
    del first
    reused_early = allocate().data_ptr() == address
    del view
    return [reused_early, allocate().data_ptr() == address]


def test_the_memory_of_a_tensor_of_the_group_is_free_again_with_its_last_view() -> None:
    assert run_ranks(1, blocks_of_tensors) == [[False, True]]


def hooks() -> tuple[list[str], int]:
    group = dist.distributed_c10d._get_default_group()
    group._enable_collectives_timing()
    seen = []
    group._register_on_completion_hook(lambda info: seen.append((str(info.op_type), info.active_duration)))
    dist.all_reduce(torch.ones(1))
    work = dist.broadcast(torch.ones(1 << 20), 0, async_op=True)
    group._wait_for_pending_works()
    assert work.is_completed()
    assert work._get_duration() > 0
    assert all(duration > timedelta(0) for _, duration in seen)
    backend = group._get_backend(torch.device("cpu"))
    return [name for name, _ in seen], backend._get_sequence_number_for_group()


def test_hooks_durations_and_sequence_numbers() -> None:
    names = ["OpType.ALLREDUCE", "OpType.BROADCAST"]
    assert run_ranks(2, hooks) == [(names, 2)] * 2


def impatient() -> str:
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    assert backend.get_error() == ErrorType.SUCCESS
    if dist.get_rank() == 1:
        with pytest.raises(dist.DistBackendError):
            dist.recv(torch.empty(1), 0)
        return ""
    backend.set_timeout(timedelta(seconds=0.5))
    assert backend.options._timeout == timedelta(seconds=0.5)
    with pytest.raises(dist.DistBackendError) as raised:
        dist.all_reduce(torch.ones(1))
    assert backend.get_error() == ErrorType.TIMEOUT
    return str(raised.value)


def test_the_timeout_can_be_changed_and_the_kind_of_error_asked_for() -> None:
    text, _ = run_ranks(2, impatient)
    assert "all_reduce #1 (float32 x 1, sum, one_shot) was not complete after 0.5 s: rank 1 has not" in text


def in_a_world_of_one() -> None:
    x = torch.arange(4.0)
    for op in (dist.ReduceOp.SUM, dist.ReduceOp.AVG, dist.ReduceOp.MAX):
        dist.all_reduce(x, op)
    assert x.tolist() == [0, 1, 2, 3]
    out = torch.empty(4)
    dist.all_gather_into_tensor(out, x)
    dist.reduce_scatter_tensor(out, x)
    dist.all_to_all_single(out, x)
    dist.barrier()
    assert out.tolist() == [0, 1, 2, 3]


def test_a_world_of_one() -> None:
    run_ranks(1, in_a_world_of_one)


def test_who_does_not_come_is_named() -> None:
    """Rank 2 of 3 is never started."""

    def join(folder: str, rank: int) -> str:
        store = dist.FileStore(str(Path(folder) / "store"), 3)
        with pytest.raises(dist.DistBackendError) as raised:
            dist.init_process_group(
                "ringtree", store=store, rank=rank, world_size=3, timeout=timedelta(seconds=1)
            )
        return str(raised.value)

    def start() -> str:
        return join(os.environ["FOLDER"], int(os.environ["POSITION"]))

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(FOLDER=folder)
        ranks = []
        for rank in range(2):
            os.environ.update(POSITION=str(rank))
            ranks.append(TorchRanks(1, start, join=False))
        for each in ranks:
            with each:
                assert "rank 2 of 3 did not come within 1 s" in each.outcomes()[0].result()
