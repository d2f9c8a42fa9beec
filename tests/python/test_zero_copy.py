"""comm.empty() and zero_copy: arrays that peers map, arrays that the kernel reads, and any mixture of them."""

import gc
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import ringtree as rt
import torch
from contract.attempts import USABLE, Attempt, assert_error, attempt
from contract.killed import kill_in_the_middle
from contract.processes import Processes, run_processes, tell
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

LARGE = 1 << 18  # elements of float32: 1 MiB


def mapped_blocks() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:ringtree")


def huge_array(count: int) -> Any:
    """An ordinary array in huge pages, where the kernel gives any."""
    page = 2 << 20
    memory = np.zeros(count * 4 + 2 * page, np.uint8)  # NumPy asks for huge pages from 4 MiB on
    begin = -memory.ctypes.data % page
    return memory[begin : begin + count * 4].view(np.float32)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", np.dtype("float32")),
        (np.int64, np.dtype("int64")),
        (np.dtype("bool"), np.dtype("bool")),
        ("bfloat16", np.dtype(ml_dtypes.bfloat16)),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("shape", [(), 0, 7, (3, 5), (2, 0, 4), [1 << 10, 1 << 11]])
def test_empty_gives_arrays_of_any_shape_and_type(shape: Any, dtype: Any, expected: object) -> None:
    with rt.init() as comm:
        x = comm.empty(shape, dtype)
        assert x.dtype == expected
        assert tuple(x.shape) == ((shape,) if isinstance(shape, int) else tuple(shape))
        assert isinstance(x, torch.Tensor if isinstance(dtype, torch.dtype) else np.ndarray)
        x[...] = 1
        comm.all_reduce(x)
        assert (x == 1).all()


@pytest.mark.parametrize("dtype", ["complex64", "float31", "uint16", torch.complex64])
def test_a_type_that_no_collective_takes_is_refused(dtype: Any) -> None:
    with rt.init() as comm, pytest.raises(rt.InvalidArgument, match="rank 0, empty: "):
        comm.empty(3, dtype)


def test_more_memory_than_there_is_is_an_error() -> None:
    with rt.init() as comm, pytest.raises(rt.TransportError, match="bytes that peers can map failed"):
        comm.empty(1 << 60, "uint8")


def freed_arrays_are_used_again(comm: rt.Communicator) -> tuple[int, int, int, int]:
    def use() -> tuple[int, int]:
        x, small = comm.empty(LARGE), comm.empty(3)
        x[:] = small[:] = 1
        comm.all_reduce(x)
        comm.all_reduce(small)
        del x, small
        gc.collect()
        return mapped_blocks(), len(os.listdir("/proc/self/fd"))

    for _ in range(10):
        first = use()
    for _ in range(50):
        last = use()
    return *first, *last


def test_freed_arrays_are_used_again() -> None:
    for outcome in run_processes(2, freed_arrays_are_used_again):
        blocks, descriptors, blocks_later, descriptors_later = outcome.result()
        assert (blocks, descriptors) == (blocks_later, descriptors_later)


def all_collectives(comm: rt.Communicator, algorithm: str, form: str) -> int:
    """Makes each call on large arrays, holds it against NumPy, returns the mappings of blocks."""
    n, rank = comm.world_size, comm.rank
    allocate = {
        "blocks": comm.empty,
        "huge": huge_array,
        "ordinary": lambda count: np.zeros(count, np.float32),
    }
    if form == "mixed":
        form = ("blocks", "ordinary", "huge")[rank % 3]

    def array(values: Any) -> Any:
        x = allocate[form](values.size)
        x[:] = values
        return x

    def numbers(of: int, count: int) -> Any:
        return np.random.default_rng(of).integers(0, 1000, count).astype(np.float32)

    total = sum(numbers(peer, n * LARGE) for peer in range(n))
    mine = slice(rank * LARGE, (rank + 1) * LARGE)
    everybody = np.concatenate([numbers(peer, LARGE) for peer in range(n)])
    for _ in range(3):  # the first call after the first block does not know of it yet
        x = array(numbers(rank, n * LARGE))
        comm.all_reduce(x, algorithm=algorithm)
        assert (x == total).all()
        x, out = array(numbers(rank, n * LARGE)), array(np.zeros(LARGE))
        comm.reduce_scatter(out, x, algorithm=algorithm)
        assert (out == total[mine]).all()
        root = n - 1
        comm.reduce(x, root, "max", algorithm=algorithm)
        if rank == root:
            assert (x == np.max([numbers(peer, n * LARGE) for peer in range(n)], axis=0)).all()
        x, out = array(numbers(rank, LARGE)), array(np.zeros(n * LARGE))
        comm.all_gather(out, x, algorithm=algorithm)
        assert (out == everybody).all()
        comm.gather(out if rank == root else None, x, root, algorithm=algorithm)
        if rank == root:
            assert (out == everybody).all()
        comm.broadcast(x, root, algorithm=algorithm)
        assert (x == numbers(root, LARGE)).all()
        x, out = array(numbers(rank, n * LARGE)), array(np.zeros(n * LARGE))
        comm.all_to_all(out, x, algorithm=algorithm)
        assert (out == np.concatenate([numbers(peer, n * LARGE)[mine] for peer in range(n)])).all()
        out = array(np.zeros(LARGE))
        comm.scatter(out, x if rank == root else None, root, algorithm=algorithm)
        assert (out == numbers(root, n * LARGE)[mine]).all()
    return mapped_blocks()


@pytest.mark.parametrize("form", ["blocks", "ordinary", "huge", "mixed"])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("world", [2, 3])
def test_every_collective_is_right_whatever_memory_the_ranks_pass(
    world: int, transport: str, form: str
) -> None:
    mapped = run_everywhere(transport, world, all_collectives, "auto", form)
    if (transport, form) == ("shm", "blocks"):
        assert min(mapped) > max(run_everywhere("shm", 1, all_collectives, "auto", form))  # peers' too


@pytest.mark.parametrize("world", [2, 4])
def test_every_collective_by_zero_copy(world: int) -> None:
    for outcome in run_processes(world, all_collectives, "zero_copy", "blocks"):
        assert outcome.result() > world


def refused_reduction(comm: rt.Communicator, ordinary: int) -> tuple[BaseException | None, float]:
    x = np.ones(100) if comm.rank == ordinary else comm.empty(100, "float64")
    x[:] = 1
    tried = attempt(lambda: comm.all_reduce(x, algorithm="zero_copy"))
    comm.all_reduce(x)
    return tried.error, float(x[0])


@pytest.mark.parametrize("ordinary", [0, 2])
def test_zero_copy_that_cannot_be_is_refused_by_all_ranks_alike(ordinary: int) -> None:
    for outcome in run_processes(3, refused_reduction, ordinary):
        error, value = outcome.result()
        assert_error(
            error, rt.InvalidArgument, "not every rank's buffer can be reached", "comm.empty()", USABLE
        )
        assert value == 3


def copies_by_the_kernel(comm: rt.Communicator) -> None:
    n = comm.world_size
    for count in (0, 1, 1000, LARGE):
        out = np.zeros(n * count, np.float32)
        comm.all_gather(out, np.full(count, comm.rank, np.float32), algorithm="zero_copy")
        assert (out.reshape(n, count) == np.arange(n)[:, None]).all()


def test_zero_copy_that_only_copies_takes_ordinary_arrays() -> None:
    for outcome in run_processes(3, copies_by_the_kernel):
        outcome.result()


def auto_beside_explicit(comm: rt.Communicator) -> BaseException | None:
    x = comm.empty(LARGE)
    for _ in range(10):
        comm.barrier()
    algorithm = comm.chosen("all_reduce", x.nbytes) if comm.rank else "auto"
    return attempt(lambda: comm.all_reduce(x, algorithm=algorithm)).error


def test_ranks_that_do_not_all_ask_for_zero_copy_are_told_so() -> None:
    for outcome in run_processes(2, auto_beside_explicit):
        assert_error(outcome.result(), rt.Mismatch, " or zero_copy)", ranks=(0, 1))


def groups_share_arrays(comm: rt.Communicator) -> float:
    x = comm.empty(LARGE)
    group = comm.split(comm.rank % 2)
    assert group is not None
    for _ in range(10):
        x[:] = comm.rank
        group.all_reduce(x)
    mapped = mapped_blocks()
    group.close()
    assert mapped_blocks() < mapped  # what was the peers'
    return float(x[-1])


def test_groups_take_the_same_arrays_and_forget_them_when_they_close() -> None:
    assert [outcome.result() for outcome in run_processes(4, groups_share_arrays)] == [2, 4, 2, 4]


def any_mixture(comm: rt.Communicator, seed: int) -> None:
    """Random calls of random sizes, each rank with memory of its own choice, some of them asynchronous."""
    common, own = np.random.default_rng(seed), np.random.default_rng((seed, comm.rank))
    n, rank = comm.world_size, comm.rank
    pending: list[tuple[rt.Work, Any, Any]] = []
    for _ in range(120):
        count = int(common.choice([1, 1000, 1 << 14, 1 << 15, 1 << 17, 1 << 19])) + int(common.integers(3))
        allocate = (comm.empty, huge_array, lambda count: np.zeros(count, np.float32))[own.integers(3)]
        x = allocate(count)
        x[:] = rank + 1
        kind = common.integers(4)
        if kind == 0:
            work = comm.all_reduce(x, async_op=bool(common.integers(2)))
            result, expected = x, n * (n + 1) / 2
        elif kind == 1:
            root = int(common.integers(n))
            work = comm.broadcast(x, root, async_op=bool(common.integers(2)))
            result, expected = x, root + 1
        elif kind == 2:
            result = allocate(n * count)
            work = comm.all_gather(result, x, async_op=bool(common.integers(2)))
            expected = np.repeat(np.arange(1, n + 1), count)
        else:
            result = allocate(count)
            work = comm.sendrecv(
                x, result, to=(rank + 1) % n, source=(rank - 1) % n, async_op=bool(common.integers(2))
            )
            expected = (rank - 1) % n + 1
        if work is None:
            assert (result == expected).all()
        else:
            pending.append((work, result, expected))
    for work, result, expected in pending:
        work.wait()
        assert (result == expected).all()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("seed", range(3))
def test_ranks_agree_in_any_mixture_of_memory(transport: str, seed: int) -> None:
    run_everywhere(transport, 3, any_mixture, seed)


def exchange_large_messages(comm: rt.Communicator, form: str) -> None:
    peer, allocate = 1 - comm.rank, {"blocks": comm.empty, "huge": huge_array}[form]
    for count in (LARGE // 8 + 1, LARGE, 6 * LARGE + 5):
        x, out = allocate(count), allocate(count)
        x[:], out[:] = np.arange(count) + comm.rank, -1
        comm.sendrecv(x, out, to=peer, source=peer)
        assert (out == np.arange(count, dtype=np.float32) + peer).all()
        outs = [allocate(count) for _ in range(6)]  # more than a lane has slots
        works = [comm.send(x[number:], peer, async_op=True) for number in range(6)]
        works += [comm.recv(out[number:], peer, async_op=True) for number, out in enumerate(outs)]
        for work in works:
            assert work is not None
            work.wait()
        for number, out in enumerate(outs):
            assert (out[number:] == (np.arange(count, dtype=np.float32) + peer)[number:]).all()


@pytest.mark.parametrize("form", ["blocks", "huge"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_large_messages_arrive_in_order(transport: str, form: str) -> None:
    run_everywhere(transport, 2, exchange_large_messages, form)


def mismatched_messages(comm: rt.Communicator) -> BaseException | None:
    x = comm.empty(2 * LARGE)
    if comm.rank == 0:
        return attempt(lambda: comm.send(x, 1)).error
    return attempt(lambda: comm.recv(x[LARGE:], 0)).error


def test_a_large_message_of_another_size_is_a_mismatch() -> None:
    for outcome in run_processes(2, mismatched_messages):
        assert_error(
            outcome.result(), rt.Mismatch, f"float32 x {2 * LARGE}", f"float32 x {LARGE}", ranks=(0, 1)
        )


def run_until_someone_is_gone(comm: rt.Communicator, call: str) -> Attempt:
    peer = (comm.rank + 1) % comm.world_size
    x, out = comm.empty(1 << 24), comm.empty(1 << 24)
    x[:] = out[:] = 0

    def run() -> None:
        for number in range(1_000_000):
            if call == "all_reduce":
                comm.all_reduce(x)
            else:
                comm.sendrecv(x, out, to=peer, source=(comm.rank - 1) % comm.world_size)
            if number == 10:
                tell("in the middle")

    return attempt(run)


@pytest.mark.parametrize("call", ["all_reduce", "sendrecv"])
def test_a_rank_killed_while_peers_use_its_memory_is_named(call: str) -> None:
    with Processes(3, run_until_someone_is_gone, call) as ranks:
        kill_in_the_middle(ranks, 3, 1, "rank 1 died")


def copy_by_the_kernel_until_someone_is_gone(comm: rt.Communicator) -> Attempt:
    x, out = np.ones(1 << 24, np.float32), np.ones(3 << 24, np.float32)

    def run() -> None:
        for number in range(1_000_000):
            comm.all_gather(out, x, algorithm="zero_copy")
            if number == 2:
                tell("in the middle")

    return attempt(run)


def test_a_rank_killed_while_the_kernel_reads_its_memory_is_named() -> None:
    with Processes(3, copy_by_the_kernel_until_someone_is_gone) as ranks:
        kill_in_the_middle(ranks, 3, 2, "rank 2 died")
