"""Communicators that have worked on the GPU leave nothing: no names, threads, descriptors, memory, events."""

import gc
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from contract.processes import run_processes, tell
from gpu.devices import give_back, held
from gpu.memory import ones
from gpu.worlds import run_threads, start_processes, variables

MANY = 6
GRANULE_MIB = 2  # in which CUDA takes memory from a real device


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

    on_device: dict[str, int]
    descriptors: Counter[str]  # an emulated allocation is one, too
    threads: int
    mapped: int

    @classmethod
    def now(cls) -> "Holdings":
        gc.collect()
        give_back()
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # that of this listing itself
                links.append(os.readlink(entry).partition(":")[0])
        maps = Path("/proc/self/maps").read_text()
        threads = len(os.listdir("/proc/self/task"))
        return cls(held(), Counter(links), threads, maps.count("ringtree-"))

    def is_no_more_than(self, before: "Holdings", ranks: int) -> bool:
        """But for what is kept of the host's memory, with an event each.

        A rank may find that what the one before it left is still in use, and take as much anew: once, since
        from then on there is one more to choose from.
        """
        kept = self.on_device.get("host memory", 0) - before.on_device.get("host memory", 0)
        may_grow = {"host memory": ranks, "events": kept, "MiB": GRANULE_MIB}
        return (
            all(now <= before.on_device[what] + may_grow.get(what, 0) for what, now in self.on_device.items())
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


def settled() -> Holdings:
    """Once nothing ends any more: streams of threads that are gone may hold something yet."""
    last, deadline = Holdings.now(), time.monotonic() + 10
    while True:
        time.sleep(0.05)
        now = Holdings.now()
        if now == last or time.monotonic() > deadline:
            return now
        last = now


def assert_steady(live: Callable[[], object], ranks: int) -> None:
    """After a few lives, which fill pools, many more change nothing; `ranks`: those of this process."""
    for _ in range(3):
        live()
    before = settled()
    for _ in range(MANY):
        live()
    after, deadline = Holdings.now(), time.monotonic() + 10
    while not after.is_no_more_than(before, ranks):
        assert time.monotonic() < deadline, f"{before} became {after}"
        time.sleep(0.05)
        after = Holdings.now()


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("transport", ["threads", "shm"])
def test_many_communicators_of_threads_leave_nothing_in_the_process(life: str, transport: str) -> None:
    names = segments()
    assert_steady(
        lambda: rt.run_local(2, LIVES[life], transport=transport, device="cuda", timeout=30), ranks=2
    )
    assert_nothing_stays(names)


def live_in_groups(comm: rt.Communicator, life: str) -> None:
    def live() -> None:
        group = comm.split(0)
        assert group is not None
        with group:
            LIVES[life](group)

    assert_steady(live, ranks=1)


@pytest.mark.parametrize("life", LIVES)
def test_many_communicators_of_processes_leave_nothing_in_them(life: str) -> None:
    names = segments()
    for outcome in run_processes(2, live_in_groups, life, environment=variables(), options={"timeout": 30}):
        outcome.result()
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

    assert_steady(live, ranks=1)


def test_virtual_ranks_give_their_memory_back() -> None:
    def live() -> None:
        x = [ones(100) for _ in range(3)]
        rt.cuda.VirtualRanks(3).run("all_reduce", x, x)
        assert all((np.asarray(each) == 3).all() for each in x)

    assert_steady(live, ranks=3)


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

    assert_steady(live, ranks=3)
