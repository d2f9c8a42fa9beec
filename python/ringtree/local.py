"""rt.run_local: ranks as threads of this process."""

import operator
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from ringtree.communicator import Communicator, in_short, open_communicator
from ringtree.cuda.streams import ask_for_queues, current_gpu, own_stream
from ringtree.errors import Aborted, InvalidArgument
from ringtree.launch import timeout_of
from ringtree.tuning import read_settings

Result = TypeVar("Result")


def run_local(
    world: int,
    fn: Callable[..., Result],
    *args: Any,
    timeout: float | None = None,
    transport: str = "threads",
    device: str = "cpu",
) -> list[Result]:
    """Run `fn(comm, *args)` on `world` ranks, each a thread named "rank N" of this process.

    When a rank fails, the calls of the others end with Aborted, so that nobody waits for it.

    Args:
        world: how many ranks.
        fn: what each rank runs. Its communicator is closed when it returns.
        args: passed on to each rank, the same objects.
        timeout: seconds that bound every wait; by default those in RINGTREE_TIMEOUT, else 300.
        transport: "threads", or "shm" as between processes.
        device: "cuda": each rank has a stream of its own, in Torch and CuPy, on the caller's current GPU.

    Returns:
        What each rank returned, by rank.

    Raises:
        TransportError: `device` is "cuda", and there is no GPU or no CUDA fabric.
        Exception: what the rank that failed first raised, with a note that says which rank it was.
    """
    try:
        count = operator.index(world)
    except TypeError:
        count = 0
    if count < 1:
        raise InvalidArgument(f"run_local: the world size must be an integer of 1 or more, not {world!r}")

    if device not in ("cpu", "cuda"):
        raise InvalidArgument(f'run_local: device must be "cpu" or "cuda", not {device!r}')
    if device == "cuda":
        ask_for_queues(count)
    gpu = current_gpu() if device == "cuda" else None

    def body(comm: Communicator) -> Result:
        with own_stream(gpu) if device == "cuda" else nullcontext():
            return fn(comm, *args)

    return _LocalWorld(count, timeout_of(timeout, os.environ), transport).run(body)


class _LocalWorld:
    """The threads, how they meet, and the one place where the first failure is written down."""

    def __init__(self, size: int, timeout: float, transport: str) -> None:
        self._size, self._timeout, self._transport = size, timeout, transport
        self._settings = read_settings()
        self._faults = os.environ.get("RINGTREE_FAULT", "")
        self._meeting = threading.Barrier(size)
        self._payloads = [b""] * size
        self._comms: list[Communicator] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()  # guards the two above

    def run(self, body: Callable[[Communicator], Result]) -> list[Result]:
        results: dict[int, Result] = {}
        # Not join() alone: a join() that Ctrl-C ends takes the thread for ended (CPython 3.11, 3.12).
        ended = [threading.Event() for _ in range(self._size)]

        def rank_main(rank: int) -> None:
            try:
                comm = self._open(rank)
                try:
                    results[rank] = body(comm)
                except BaseException as error:
                    self._fail(error, rank)  # before close(), which makes others fail in turn
                    raise
                finally:
                    comm.close()
            except BaseException as error:
                self._fail(error, rank)
            finally:
                ended[rank].set()

        ranks = range(self._size)
        threads = [threading.Thread(target=rank_main, args=(rank,), name=f"rank {rank}") for rank in ranks]
        try:
            for thread in threads:
                thread.start()
            for event in ended:
                event.wait()
        except BaseException as error:  # Ctrl-C, or no more threads to be had
            self._fail(error, None)
            for thread, event in zip(threads, ended, strict=True):
                if thread.ident is not None:
                    event.wait()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        if self._failure is not None:
            raise self._failure
        return [results[rank] for rank in ranks]

    def _open(self, rank: int) -> Communicator:
        def exchange(payload: bytes) -> list[bytes]:
            self._payloads[rank] = payload
            try:
                self._meeting.wait(self._timeout)
            except threading.BrokenBarrierError:
                raise Aborted(f"rank {rank}, init: another rank failed on its way here") from None
            return self._payloads

        comm = open_communicator(
            self._transport, rank, self._size, self._timeout, exchange, self._settings, self._faults
        )
        with self._lock:
            self._comms.append(comm)
            too_late = self._failure is not None
        if too_late:
            comm.abort("another rank has failed")
        return comm

    def _fail(self, error: BaseException, rank: int | None) -> None:
        """Write down the first failure, and end what other ranks are waiting for, now or later."""
        with self._lock:
            if self._failure is None:
                self._failure = error
                if rank is not None:
                    error.add_note(f"(raised by rank {rank} of {self._size} in rt.run_local)")
            comms = list(self._comms)
        self._meeting.abort()
        for comm in comms:
            if rank is None or comm.rank == rank:
                with suppress(InvalidArgument):  # it is closed already
                    comm.abort(in_short(error))
