"""Nothing stays behind: no names in /dev/shm, no threads, no descriptors, no mapped memory."""

import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from contract.processes import Processes, run_processes, tell

SHM = Path("/dev/shm")


def segments() -> set[Path]:
    return set(SHM.glob("ringtree-*"))


def assert_nothing_stays(before: set[Path]) -> None:
    """Segments have names while their ranks meet, perhaps those of other programs now; but none keeps it."""
    left, deadline = segments() - before, time.monotonic() + 10
    while left := left & segments():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)


def work_a_little(comm: rt.Communicator) -> float:
    x = np.ones(100_000)
    works = [comm.all_reduce(x, async_op=True)]
    if comm.world_size > 1:
        peer = comm.rank ^ 1
        if peer < comm.world_size:
            works += [comm.recv(np.empty(5), peer, async_op=True), comm.send(np.ones(5), peer, async_op=True)]
    comm.barrier()
    for work in works:
        assert work is not None
        work.wait()
    return float(x[0])


def test_a_normal_end_leaves_no_segment() -> None:
    before = segments()
    assert [outcome.result() for outcome in run_processes(3, work_a_little)] == [3.0] * 3
    assert_nothing_stays(before)


def names_seen_between_calls(comm: rt.Communicator) -> list[str]:
    """The segment that this process has mapped, as the kernel lists it."""
    comm.barrier()
    maps = Path("/proc/self/maps").read_text().splitlines()
    comm.barrier()
    return [line for line in maps if "/dev/shm/ringtree-" in line]


def test_the_name_is_gone_as_soon_as_all_have_mapped_the_segment() -> None:
    for outcome in run_processes(2, names_seen_between_calls):
        [line] = outcome.result()
        assert line.endswith("(deleted)")


def work_forever(comm: rt.Communicator) -> None:
    number = 0
    while True:
        work_a_little(comm)
        comm.all_reduce(np.ones(1000), async_op=True)
        if number == 10:
            tell("in the middle")
        number += 1


def test_kill_9_of_all_ranks_in_the_middle_leaves_no_segment() -> None:
    before = segments()
    with Processes(3, work_forever) as ranks:
        for rank in range(3):
            assert ranks.hear(rank) == "in the middle"
        for pid in ranks.pids.values():
            os.kill(pid, signal.SIGKILL)
        assert [outcome.exitcode for outcome in ranks.outcomes()] == [-signal.SIGKILL] * 3
    assert_nothing_stays(before)


def test_a_segment_is_private_while_it_has_a_name_and_gone_after_a_failed_init() -> None:
    before = segments()
    with Processes(2, work_a_little, options={"timeout": 3}, present=[0]) as ranks:
        deadline = time.monotonic() + 30
        while not (new := segments() - before):
            assert time.monotonic() < deadline, "rank 0 made no segment"
            time.sleep(0.001)
        for segment in new:
            status = segment.stat()
            assert stat.S_IMODE(status.st_mode) == 0o600
            assert status.st_uid == os.getuid()
            assert len(segment.name) == len("ringtree-") + 32  # 128 random bits
        [outcome] = ranks.outcomes()
    assert isinstance(outcome.error, rt.Timeout)
    assert outcome.error.ranks == (1,)
    assert_nothing_stays(before)


def fail_to_join() -> str:
    """Rank 1 asks for another transport than rank 0."""
    with pytest.raises(rt.TransportError) as raised:
        rt.init(transport="threads" if os.environ["RANK"] == "1" else "shm")
    return str(raised.value)


def test_a_refused_init_leaves_no_segment() -> None:
    before = segments()
    for outcome in run_processes(2, fail_to_join, joined=False):
        assert "different transports" in outcome.result()
    assert_nothing_stays(before)


# What one process holds


@dataclass(frozen=True)
class Holdings:
    """What grows if communicators leave something behind."""

    descriptors: list[str]
    threads: int
    segments: int

    @classmethod
    def now(cls) -> "Holdings":
        gc.collect()
        descriptors = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                descriptors.append(os.readlink(entry).partition(":")[0])
            except FileNotFoundError:  # that of this listing itself
                continue
        maps = Path("/proc/self/maps").read_text()
        return cls(sorted(descriptors), len(os.listdir("/proc/self/task")), maps.count("ringtree-"))


def use_and_close(comm: rt.Communicator) -> None:
    work_a_little(comm)
    comm.close()


def use_and_drop(comm: rt.Communicator) -> None:
    work_a_little(comm)


def fail_and_close(comm: rt.Communicator) -> None:
    comm.barrier()
    if comm.rank == 0:
        comm.abort("as a test")
    try:
        while True:
            work_a_little(comm)
    except rt.Aborted:
        comm.close()


LIVES = {life.__name__: life for life in (use_and_close, use_and_drop, fail_and_close)}


def live_many_times(comm: rt.Communicator, life: str, times: int) -> tuple[Holdings, Holdings]:
    """What this process holds after a first group has come and gone, and after many more."""

    def live() -> None:
        group = comm.split(0)
        assert group is not None
        LIVES[life](group)

    work_a_little(comm)  # starts this communicator's own threads
    live()
    before = Holdings.now()
    for _ in range(times):
        live()
    return before, Holdings.now()


@pytest.mark.parametrize("life", LIVES)
def test_200_communicators_of_processes_leave_nothing_in_them(life: str) -> None:
    for outcome in run_processes(2, live_many_times, life, 200, timeout=30):
        before, after = outcome.result()
        assert after == before


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("transport", ["threads", "shm"])
def test_200_communicators_of_threads_leave_nothing_in_the_process(life: str, transport: str) -> None:
    def live(comm: rt.Communicator) -> None:
        LIVES[life](comm)

    rt.run_local(2, live, transport=transport)
    before = Holdings.now()
    for _ in range(200):
        rt.run_local(2, live, transport=transport)
    assert Holdings.now() == before


def init_many_times(times: int) -> tuple[Holdings, Holdings]:
    def live() -> None:
        with rt.init() as comm:
            work_a_little(comm)

    live()
    before = Holdings.now()
    for _ in range(times):
        live()
    return before, Holdings.now()


def test_many_inits_leave_nothing_in_their_processes() -> None:
    for outcome in run_processes(2, init_many_times, 20, joined=False):
        before, after = outcome.result()
        assert after == before


def test_ranks_of_run_local_that_fail_leave_no_thread() -> None:
    def fail(comm: rt.Communicator) -> None:
        comm.all_reduce(np.ones(8), async_op=True)
        if comm.rank == 1:
            raise LookupError("no such sample")
        comm.recv(np.ones(8), 1)

    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(LookupError):
            rt.run_local(3, fail)
    assert threading.active_count() == before


ENDS_WITHOUT_CLOSING = """
import numpy as np
import ringtree as rt

comm = rt.init()
group = comm.split(0)
for each in (comm, group):
    each.all_reduce(np.ones(8), async_op=True).wait()
"""


def test_a_program_that_ends_without_closing_ends_normally() -> None:
    for _ in range(10):  # its threads must be gone before the interpreter, not only by luck
        done = subprocess.run(
            [sys.executable, "-c", ENDS_WITHOUT_CLOSING],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
