"""Communicators that have worked on the GPU leave nothing: no names, threads, descriptors, memory, events."""

import gc
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from contract.processes import run_processes, tell
from gpu.devices import held
from gpu.memory import ones
from gpu.worlds import run_threads, start_processes, variables

MANY = 6


def segments() -> set[Path]:
    return set(Path("/dev/shm").glob("ringtree-*"))


def assert_nothing_stays(before: set[Path]) -> None:
    """Other programs' segments have names while their ranks meet; but none keeps it."""
    left, deadline = segments() - before, time.monotonic() + 10
    while left := left & segments():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Holdings:
    """What grows if communicators leave something behind."""

    on_device: list[int]
    descriptors: Counter[str]
    threads: int
    mapped: int

    @classmethod
    def now(cls) -> "Holdings":
        gc.collect()
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                link = os.readlink(entry).partition(":")[0]
            except FileNotFoundError:  # that of this listing itself
                continue
            if link != "/memfd":  # the memory of an emulated device, counted there
                links.append(link)
        maps = Path("/proc/self/maps").read_text()
        threads = len(os.listdir("/proc/self/task"))
        return cls(held(), Counter(links), threads, maps.count("ringtree-"))

    def is_no_more_than(self, before: "Holdings") -> bool:
        """An array may find that the one before it is in use yet, so that one more is kept; not one each time."""
        few = MANY // 3
        return (
            all(now <= then + few for now, then in zip(self.on_device, before.on_device, strict=True))
            and self.descriptors <= before.descriptors
            and self.threads <= before.threads
            and self.mapped <= before.mapped
        )


def work(comm: rt.Communicator) -> None:
    x = ones(1000)
    comm.all_reduce(x)
    comm.all_reduce(x, rt.premul_sum(0.5))
    comm.all_reduce(np.ones(8))
    assert (np.asarray(x) == comm.world_size**2 / 2).all()


def work_and_fail(comm: rt.Communicator) -> None:
    work(comm)
    comm.barrier()
    if comm.rank == 0:
        comm.abort("as a test")
    again_and_again = iter(lambda: work(comm), "never")
    with pytest.raises(rt.Aborted):
        deque(again_and_again, maxlen=0)


LIVES = {"work": work, "work_and_fail": work_and_fail}


def assert_steady(live: Callable[[], object]) -> tuple[Holdings, Holdings]:
    """After a few lives, which fill pools, many more change nothing."""
    for _ in range(3):
        live()
    before = Holdings.now()
    for _ in range(MANY):
        live()
    return before, Holdings.now()


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("transport", ["threads", "shm"])
def test_many_communicators_of_threads_leave_nothing_in_the_process(life: str, transport: str) -> None:
    names = segments()
    before, after = assert_steady(
        lambda: rt.run_local(2, LIVES[life], transport=transport, device="cuda", timeout=30)
    )
    assert after.is_no_more_than(before), f"{before} became {after}"
    assert_nothing_stays(names)


def live_in_groups(comm: rt.Communicator, life: str) -> tuple[Holdings, Holdings]:
    def live() -> None:
        group = comm.split(0)
        assert group is not None
        with group:
            LIVES[life](group)

    return assert_steady(live)


@pytest.mark.parametrize("life", LIVES)
def test_many_communicators_of_processes_leave_nothing_in_them(life: str) -> None:
    names = segments()
    for outcome in run_processes(2, live_in_groups, life, environment=variables(), options={"timeout": 30}):
        before, after = outcome.result()
        assert after.is_no_more_than(before), f"{before} became {after}"
    assert_nothing_stays(names)


def work_for_ever(comm: rt.Communicator) -> None:
    number = 0
    while True:
        work(comm)
        if number == 10:
            tell("in the middle")
        number += 1


def test_kill_9_of_all_ranks_in_the_middle_leaves_no_segment() -> None:
    names = segments()
    with start_processes(3, work_for_ever) as ranks:
        for rank in range(3):
            assert ranks.hear(rank) == "in the middle"
        for pid in ranks.pids.values():
            os.kill(pid, signal.SIGKILL)
        assert [outcome.exitcode for outcome in ranks.outcomes()] == [-signal.SIGKILL] * 3
    assert_nothing_stays(names)


def test_arrays_give_their_memory_to_the_next() -> None:
    def live() -> None:
        for count in (1, 1000, 1 << 20):
            x = rt.cuda.empty(count)
            x.set(1)
            assert x.get().sum() == count

    before, after = assert_steady(live)
    assert after.is_no_more_than(before), f"{before} became {after}"


def test_virtual_ranks_give_their_memory_back() -> None:
    def live() -> None:
        x = [ones(100) for _ in range(3)]
        rt.cuda.VirtualRanks(3).run("all_reduce", x, x)
        assert all((np.asarray(each) == 3).all() for each in x)

    before, after = assert_steady(live)
    assert after.is_no_more_than(before), f"{before} became {after}"


def test_ranks_that_fail_in_calls_leave_no_thread() -> None:
    def fail(comm: rt.Communicator) -> None:
        comm.all_reduce(ones())
        if comm.rank == 1:
            raise LookupError("no such sample")
        comm.all_reduce(ones())
        comm.synchronize()

    def live() -> None:
        with pytest.raises(LookupError):
            run_threads(3, fail)

    before, after = assert_steady(live)
    assert after.is_no_more_than(before), f"{before} became {after}"
