"""`ringtree.run_local()`: ranks as threads of this process, for tests, notebooks and debuggers."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Concatenate, TypeVar

from ringtree.communicator import Communicator
from ringtree.errors import InvalidArgument, RingtreeError, Timeout
from ringtree.launch import timeout_from
from ringtree.rendezvous import Exchange
from ringtree.tuning import settings_text

T = TypeVar("T")


def run_local(
    world: int,
    fn: Callable[Concatenate[Communicator, ...], T],
    *args: object,
    timeout: float | None = None,
    transport: str = "threads",
) -> list[T]:
    """Call `fn(comm, *args)` on `world` ranks, each a thread of this process; return their results, by rank.

    If a rank raises, the others' calls are ended, and what was raised first is raised here, with a note that
    names the rank.

    Args:
        world: ranks.
        fn: what each rank runs.
        args: passed on to every rank.
        timeout: seconds that bound every wait; default RINGTREE_TIMEOUT, else 300.
        transport: "threads", or "shm" to go through a shared-memory segment all the same.
    """
    if world < 1:
        raise InvalidArgument(f"run_local needs a world of 1 rank or more, not {world}")
    seconds, settings = timeout_from(os.environ, timeout), settings_text()
    meeting = _Meeting(world, seconds)
    communicators: list[Communicator | None] = [None] * world
    results: dict[int, T] = {}
    failures: list[tuple[int, BaseException]] = []

    def run(rank: int) -> None:
        try:
            with Communicator(transport, rank, world, seconds, meeting.exchange(rank), settings) as comm:
                communicators[rank] = comm
                try:
                    results[rank] = fn(comm, *args)
                except BaseException as error:
                    failures.append((rank, error))
                    with suppress(RingtreeError):
                        comm.abort(f"{type(error).__name__} was raised there: {error}")
        except BaseException as error:
            failures.append((rank, error))
            meeting.cancel()

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}", daemon=True) for rank in range(world)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C
        for communicator in filter(None, communicators):
            with suppress(RingtreeError):
                communicator.abort(f"{type(error).__name__} in the thread that called run_local")
        meeting.cancel()
        for thread in threads:
            thread.join()
        raise
    if failures:
        rank, error = failures[0]
        error.add_note(f"raised on rank {rank} of ringtree.run_local({world}, ...)")
        raise error
    return [results[rank] for rank in range(world)]


class _Meeting:
    """The rendezvous of threads."""

    def __init__(self, world: int, timeout: float) -> None:
        self._payloads = [b""] * world
        self._barrier = threading.Barrier(world, timeout=timeout)

    def exchange(self, rank: int) -> Exchange:
        def exchange(payload: bytes) -> list[bytes]:
            self._payloads[rank] = payload
            try:
                self._barrier.wait()
            except threading.BrokenBarrierError:
                raise Timeout(f"rank {rank}, init: not all threads of run_local came to the rendezvous") from None
            return list(self._payloads)

        return exchange

    def cancel(self) -> None:
        self._barrier.abort()
