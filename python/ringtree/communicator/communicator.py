"""The communicator itself: all its calls together, how it opens, divides and ends."""

import operator
from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet, finalize

import numpy as np

from ringtree import _core
from ringtree._core import Work
from ringtree.allocation import empty
from ringtree.communicator.movement import Movement
from ringtree.communicator.point_to_point import PointToPoint
from ringtree.communicator.reductions import Reductions
from ringtree.cuda import empty as empty_on_gpu
from ringtree.errors import InvalidArgument, RankFailure, TransportError
from ringtree.launch import timeout_of
from ringtree.rendezvous import Exchange, through_parent
from ringtree.tuning import ON_GPU, Rules, Settings


class Communicator(Reductions, Movement, PointToPoint):
    """One rank's end of a group of ranks; made by `rt.init`, `rt.run_local` and `split`.

    Collectives are called by every rank, in the same order, with matching arguments; ranks compare, and
    each is told of a difference. Calls run in the order in which they were made, and several asynchronous
    ones may be in flight. Arrays are NumPy's, Torch's, CuPy's, or anything with the buffer protocol or
    DLPack, and must be contiguous. Calls on arrays of a GPU are enqueued on the current stream of the
    array's library and return at once.

    After an InvalidArgument the communicator is as good as before. After any other error of a call it is not:
    every rank gets one, and the thing to do is to close it and open another.

    As a context manager it closes itself; when the block ends in an error, it tells the others (abort).
    """

    def __init__(self, core: _core.Communicator, settings: Settings) -> None:
        super().__init__(core)
        self._settings = settings
        self._groups: WeakSet[Communicator] = WeakSet()  # what split() and shrink() have made of this
        finalize(self, core.close)  # when it is dropped, at the latest before the interpreter goes

    @property
    def rank(self) -> int:
        """This rank, 0 to world_size - 1."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Ranks in the group."""
        return self._world

    @property
    def timeout(self) -> float:
        """Seconds that bound every wait."""
        return self._core.timeout

    @property
    def transport(self) -> str:
        """How ranks reach one another: "shm" or "threads"."""
        return self._core.transport

    @property
    def staged(self) -> bool:
        """Whether messages between GPUs go through the host, as one cannot reach another's memory.

        Raises:
            InvalidArgument: there has been no call on a GPU yet.
        """
        return self._core.staged()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._core.closed

    def barrier(self, *, algorithm: str = "auto", async_op: bool = False) -> Work | None:
        """Return when every rank has called it.

        Args:
            algorithm: "auto" or one of `rt.algorithms("barrier")`.
            async_op: return a Work at once, which is done when every rank has called.

        Raises:
            RingtreeError: as all_reduce.
        """
        if not async_op and algorithm == "auto" and self._quick.barrier():
            return None
        if algorithm != "auto":
            self._check_algorithm("barrier", algorithm)
        return self._core.barrier(algorithm, async_op)

    def synchronize(self) -> None:
        """Return when the calls on the GPU are over that were made so far, those in captured graphs excepted.

        Calls on arrays of a GPU return when they are enqueued, like everything on a stream, and so nobody is
        there to be told if one goes wrong. Here, in the next call and in close() one is.

        Raises:
            Timeout: they are not over after `timeout` seconds, or a rank did not come to one of them.
            RingtreeError: as all_reduce.
        """
        self._core.synchronize()

    def empty(self, shape: int | Sequence[int], dtype: Any = "float32", *, device: str | None = None) -> Any:
        """An array in memory that the other ranks can map, of whatever content.

        Collectives of 64 KiB and more whose arrays all come from here reduce and copy them directly, without
        a copy into a shared segment. Not a collective. The memory is the process's and serves all of its
        communicators; what is freed is kept for the next array. After an error that ended a call (not an
        InvalidArgument), ranks that have not noticed yet may still write to the arrays that it was given.

        Args:
            shape: a number of elements, or their number in each dimension.
            dtype: NumPy's, by object or name, or a `torch.dtype`. Bytes of this shape and type must be there.
            device: "cuda": in the memory of the current GPU.

        Returns:
            A NumPy array, or a Torch tensor if `dtype` is Torch's; contiguous. On a GPU zeros, from the pools
            of Torch and CuPy: a CuPy array in place of NumPy's if CuPy has been imported; without it an
            `rt.cuda.DeviceArray`.

        Raises:
            InvalidArgument: there is no such type.
            TransportError: there is not so much memory.
        """
        try:
            return empty(shape, dtype) if device in (None, "cpu") else empty_on_gpu(shape, dtype, device)
        except (InvalidArgument, TransportError) as error:
            raise self._refusal("empty", error, type(error)) from None

    def split(
        self, color: int | None, key: int = 0, *, timeout: float | None = None
    ) -> "Communicator | None":
        """Divide the ranks into groups, each with a communicator of its own; every rank must call it.

        Args:
            color: ranks with the same color make a group; None: this rank is in no group.
            key: ranks of a group are ordered by key, then by their rank here.
            timeout: seconds that bound every wait in the group; None: as here.

        Returns:
            This rank's group, or None without a color. It has the transport of this one.

        Raises:
            InvalidArgument: `timeout` is not a number of seconds above 0.
            RingtreeError: as all_reduce.
        """
        try:
            patience = timeout_of(self.timeout if timeout is None else timeout, {})
        except InvalidArgument as error:
            raise self._refusal("split", str(error)) from None
        wish = [color is not None, self._integer("color", color or 0), self._integer("key", key)]
        wishes = np.empty((self._world, 3), np.int64)
        self.all_gather(wishes, np.array(wish, np.int64))
        alike = [rank for rank in range(self._world) if (wishes[rank, :2] == wish[:2]).all()]
        members = sorted(alike, key=lambda rank: (wishes[rank, 2], rank))
        exchange = through_parent(self, members)
        if color is None:
            exchange(b"")
            return None
        group = open_communicator(
            self.transport, members.index(self._rank), len(members), patience, exchange, self._settings
        )
        self._groups.add(group)
        return group

    def shrink(self) -> "Communicator":
        """Go on with the ranks that are left, in the same processes; every one of them must call it.

        A rank is left unless its process has ended or it has closed this communicator. What is still under
        way on this communicator ends with an error, and it is closed; nothing else is lost. Groups that were
        split from it are as they were: close them, and split the new one.

        Returns:
            A communicator of the ranks that are left, in the order that they had, with the timeout and the
            transport of this one.

        Raises:
            Timeout: ranks that are alive did not call it within `timeout` seconds; `.ranks` names them.
            RankFailure: ranks died during many attempts.
            InvalidArgument: the communicator is closed.
        """
        while True:
            members = self._core.survivors()
            try:
                group = open_communicator(
                    self.transport,
                    members.index(self._rank),
                    len(members),
                    self.timeout,
                    partial(self._core.exchange_with, members),
                    self._settings,
                )
            except RankFailure:  # one of them died meanwhile: without it, then
                continue
            self._groups.add(group)
            self._core.close()
            return group

    def chosen(self, collective: str, nbytes: int, device: str = "cpu") -> str:
        """The algorithm that "auto" takes where all shares are equal.

        Args:
            collective: one of `rt.COLLECTIVES`.
            nbytes: the buffer's size; where ranks hold shares, that of all shares together.
            device: "cuda": of arrays on a GPU, after the first call on one.
        """
        chosen = self._core.chosen if device == "cpu" else self._core.chosen_on_gpu
        return chosen(collective, nbytes)

    def dump(self, path: str | PathLike[str]) -> None:
        """Write down what all ranks of this communicator do at this moment, for `ringtree trace`.

        Not a collective, and it does not disturb what is under way; after an error it still works. With
        RINGTREE_TRACE_DIR set, the error that ends a communicator does the same.

        Args:
            path: of the JSON file; docs/debugging.md describes it.

        Raises:
            InvalidArgument: the communicator is closed.
        """
        Path(path).write_text(self._core.snapshot() + "\n", encoding="utf-8")

    def abort(self, reason: str) -> None:
        """End every call that is under way on any rank, and every later one, with Aborted and the reason.

        That goes for this communicator, and for the groups of this rank that were split from it.

        Raises:
            InvalidArgument: the communicator is closed.
        """
        for group in list(self._groups):
            if not group.closed:
                group.abort(reason)
        self._core.abort(reason)

    def close(self) -> None:
        """Finish what is in flight and leave. Peers that still need this rank get RankFailure.

        Raises:
            Mismatch: among the last calls were a broadcast, reduce, gather or scatter for which a peer made
                another call. The communicator is closed all the same.
        """
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception | KeyboardInterrupt) and not self.closed:
            self.abort(in_short(error))
        self._core.close()

    def __repr__(self) -> str:
        closed = ", closed" if self.closed else ""
        return f"<ringtree.Communicator: rank {self._rank} of {self._world} over {self.transport}{closed}>"

    def _integer(self, name: str, value: int) -> int:
        try:
            if -(2**63) <= (number := operator.index(value)) < 2**63:
                return number
        except TypeError:
            pass
        raise self._refusal("split", f"{name} must be an integer of 64 bits, not {value!r}")


def open_communicator(
    transport: str,
    rank: int,
    world: int,
    timeout: float,
    exchange: Exchange,
    settings: Settings,
    faults: str = "",
) -> Communicator:
    """Meet the other ranks; a collective.

    Args:
        transport: one of `_core.TRANSPORTS`.
        rank: this rank.
        world: how many there are.
        timeout: seconds that bound every wait, this one too.
        exchange: the rendezvous, used once.
        settings: those of rank 0 hold for all; others may pass anything.
        faults: what strikes on purpose, as in RINGTREE_FAULT.

    Raises:
        InvalidArgument: an argument, or something in rank 0's settings, is wrong.
        TransportError: the ranks cannot reach one another.
        Timeout: some ranks did not come; `.ranks` names them.
    """
    shared = settings

    def exchange_with_settings(payload: bytes) -> Sequence[bytes]:
        nonlocal shared
        parts = [message.partition(b"\0") for message in exchange(settings.encode() + b"\0" + payload)]
        shared = Settings.decode(parts[0][0])
        rules.extend(shared.rules_for(transport, world))  # before anybody has opened anything
        rules_on_gpu.extend(shared.rules_for(ON_GPU, world))
        packets_on_gpu.extend(shared.packets_for(world))
        return [payload for _, _, payload in parts]

    rules: list[tuple[str, Rules]] = []
    rules_on_gpu: list[tuple[str, Rules]] = []
    packets_on_gpu: list[tuple[str, int]] = []
    core = _core.Communicator(transport, rank, world, timeout, exchange_with_settings)
    for collective, preferred in rules:
        core.prefer(collective, preferred)
    for collective, preferred in rules_on_gpu:
        core.prefer_on_gpu(collective, preferred)
    for collective, nbytes in packets_on_gpu:
        core.packets_on_gpu(collective, nbytes)
    for collective, algorithm in shared.forced.items():
        core.force(collective, algorithm)
    if faults:
        core.inject(faults)
    return Communicator(core, shared)


def in_short(error: BaseException) -> str:
    """An error as the reason of an abort: one line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
