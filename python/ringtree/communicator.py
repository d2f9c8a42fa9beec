"""The communicator: every collective checks its arguments here and then is one call into the core."""

import atexit
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from ringtree import _core
from ringtree._core import Work
from ringtree.buffers import Buffer, as_buffer
from ringtree.errors import InvalidArgument
from ringtree.ops import Op, op_code
from ringtree.rendezvous import Exchange, through_parent
from ringtree.tuning import rules_in

_open: "weakref.WeakSet[Communicator]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for communicator in list(_open):
        communicator.close()


class Communicator:
    """A group of ranks that make the same calls in the same order. `ringtree.init()` makes the first one.

    Arrays are NumPy arrays, Torch CPU tensors, or anything with DLPack or the buffer protocol; they must be
    C-contiguous and are never copied. With `async_op=True` a call returns a Work at once, and the arrays belong
    to it until `work.wait()` returns.

    Every call may raise: InvalidArgument (nothing was sent, the communicator stays usable), Mismatch (another
    rank made another call), Timeout (not all ranks came within `timeout` seconds), RankFailure (a rank died or
    left), Aborted. After all but the first the communicator can only be closed.
    """

    def __init__(
        self, transport: str, rank: int, world: int, timeout: float, exchange: Exchange, settings: str
    ) -> None:
        """Collective over all ranks; `settings` as tuning.settings_text() gives them, rank 0's count."""
        own = settings.encode() + b"\0"
        shared: list[str] = []

        def with_settings(payload: bytes) -> list[bytes]:
            received = [part.partition(b"\0") for part in exchange(own + payload)]
            shared.append(received[0][0].decode())
            return [payload for _, _, payload in received]

        self._core = _core.Communicator(transport, rank, world, timeout, with_settings)
        self._settings = shared[0]
        self.rank = rank
        self.world_size = world
        self.timeout = timeout
        self.transport = transport
        for collective, rules in rules_in(self._settings, transport, world):
            self._core.prefer(collective, rules)
        _open.add(self)

    def __repr__(self) -> str:
        state = ", closed" if self._core.closed else ""
        return f"<ringtree.Communicator rank {self.rank} of {self.world_size}, {self.transport}{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reductions

    def all_reduce(
        self, x: Any, op: Op = "sum", *, out: Any = None, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Combine `x` across all ranks; every rank ends with the same bits, in `x` or in `out`.

        Args:
            x: array of any shape, the same size and dtype on every rank.
            op: "sum", "avg", "prod", "min", "max", "band", "bor", "bxor" or `ringtree.premul_sum(factor)`.
            out: array like `x` that takes the result; `x` is then only read.
            algorithm: "auto" or one of `ringtree.algorithms("all_reduce")`.
            async_op: return a Work instead of waiting.

        Cost: 2(n-1)/n times the bytes of `x` sent by each rank (ring, two_shot).
        """
        source, target = self._in_and_out("all_reduce", x, out)
        code, factor = self._op("all_reduce", op)
        return self._core.all_reduce(
            source.pointer, target.pointer, source.count, source.dtype, code, factor, algorithm, async_op,
            (x, out) if async_op else None,
        )  # fmt: skip

    def reduce(
        self, x: Any, root: int = 0, op: Op = "sum", *, out: Any = None, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Combine `x` across all ranks at `root`, in `x` or in `out`; elsewhere neither changes.

        Args:
            x: array of any shape, the same size and dtype on every rank.
            root: the rank that gets the result.
            op: as in all_reduce().
            out: array like `x` for the result; may be None except where the root wants to keep `x`.
            algorithm: "auto" or one of `ringtree.algorithms("reduce")`.
            async_op: return a Work instead of waiting.
        """
        source, target = self._in_and_out("reduce", x, out, writes=self.rank == root)
        code, factor = self._op("reduce", op)
        return self._core.reduce(
            source.pointer, target.pointer, source.count, source.dtype, code, factor, root, algorithm, async_op,
            (x, out) if async_op else None,
        )  # fmt: skip

    def reduce_scatter(
        self, out: Any, x: Any, op: Op = "sum", *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Combine `x` across all ranks; rank r gets the r-th of n equal shares.

        Args:
            out: array of `x.size / n` elements; may be exactly this rank's share of `x`.
            x: array of the same size and dtype on every rank.
            op: as in all_reduce().
            algorithm: "auto" or one of `ringtree.algorithms("reduce_scatter")`.
            async_op: return a Work instead of waiting.

        Cost: (n-1)/n times the bytes of `x` sent by each rank.
        """
        target = self._buffer("reduce_scatter", "out", out, writable=True)
        return self._reduce_scatter("reduce_scatter", out, target, x, [target.count] * self.world_size, op, algorithm, async_op)

    def reduce_scatter_v(
        self, out: Any, x: Any, counts: Sequence[int], op: Op = "sum", *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """reduce_scatter() with shares of any sizes: rank r gets `counts[r]` elements.

        Args:
            out: array of `counts[rank]` elements.
            x: array of `sum(counts)` elements.
            counts: one for each rank, the same on all ranks.
            op: as in all_reduce().
            algorithm: "auto" or one of `ringtree.algorithms("reduce_scatter")`.
            async_op: return a Work instead of waiting.
        """
        target = self._buffer("reduce_scatter_v", "out", out, writable=True)
        return self._reduce_scatter("reduce_scatter_v", out, target, x, list(counts), op, algorithm, async_op)

    def _reduce_scatter(
        self, call: str, out: Any, target: Buffer, x: Any, counts: list[int], op: Op, algorithm: str, async_op: bool
    ) -> Work | None:
        source = self._buffer(call, "x", x, writable=False)
        self._check_counts(call, "counts", counts)
        self._check_size(call, "x", source, sum(counts), f"the sum of all ranks' shares, {counts}")
        self._check_size(call, "out", target, counts[self.rank], "this rank's share")
        self._check_pair(call, source, target, share=(source.pointer, sum(counts[: self.rank])))
        code, factor = self._op(call, op)
        return self._core.reduce_scatter(
            source.pointer, target.pointer, counts, source.dtype, code, factor, algorithm, async_op,
            (x, out) if async_op else None,
        )  # fmt: skip

    # Movement

    def broadcast(self, x: Any, root: int = 0, *, algorithm: str = "auto", async_op: bool = False) -> Work | None:
        """Copy the root's `x` into everybody's.

        Args:
            x: array of any shape, the same size and dtype on every rank; only read at the root.
            root: whose `x` it is.
            algorithm: "auto" or one of `ringtree.algorithms("broadcast")`.
            async_op: return a Work instead of waiting.
        """
        data = self._buffer("broadcast", "x", x, writable=self.rank != root)
        keep = x if async_op else None
        return self._core.broadcast(data.pointer, data.count, data.dtype, root, algorithm, async_op, keep)

    def all_gather(self, out: Any, x: Any, *, algorithm: str = "auto", async_op: bool = False) -> Work | None:
        """Put every rank's `x` one behind the other into everybody's `out`.

        Args:
            out: array of `n * x.size` elements.
            x: array of the same size and dtype on every rank; may be exactly this rank's share of `out`.
            algorithm: "auto" or one of `ringtree.algorithms("all_gather")`.
            async_op: return a Work instead of waiting.

        Cost: (n-1)/n times the bytes of `out` received by each rank.
        """
        source = self._buffer("all_gather", "x", x, writable=False)
        return self._all_gather("all_gather", out, x, source, [source.count] * self.world_size, algorithm, async_op)

    def all_gather_v(
        self, out: Any, x: Any, counts: Sequence[int], *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """all_gather() with shares of any sizes: rank r gives `counts[r]` elements.

        Args:
            out: array of `sum(counts)` elements.
            x: array of `counts[rank]` elements.
            counts: one for each rank, the same on all ranks.
            algorithm: "auto" or one of `ringtree.algorithms("all_gather")`.
            async_op: return a Work instead of waiting.
        """
        source = self._buffer("all_gather_v", "x", x, writable=False)
        return self._all_gather("all_gather_v", out, x, source, list(counts), algorithm, async_op)

    def _all_gather(
        self, call: str, out: Any, x: Any, source: Buffer, counts: list[int], algorithm: str, async_op: bool
    ) -> Work | None:
        target = self._buffer(call, "out", out, writable=True)
        self._check_counts(call, "counts", counts)
        self._check_size(call, "x", source, counts[self.rank], "this rank's share")
        self._check_size(call, "out", target, sum(counts), f"the sum of all ranks' shares, {counts}")
        self._check_pair(call, source, target, share=(target.pointer, sum(counts[: self.rank])))
        keep = (x, out) if async_op else None
        return self._core.all_gather(source.pointer, target.pointer, counts, source.dtype, algorithm, async_op, keep)

    def all_to_all(self, out: Any, x: Any, *, algorithm: str = "auto", async_op: bool = False) -> Work | None:
        """Send the r-th of n equal shares of `x` to rank r; `out` gets what the ranks sent, in their order.

        Args:
            out: array like `x`, in other memory.
            x: array of the same size, a multiple of n, and dtype on every rank.
            algorithm: "auto" or one of `ringtree.algorithms("all_to_all")`.
            async_op: return a Work instead of waiting.
        """
        source, target = self._both("all_to_all", out, x)
        self._check_size("all_to_all", "out", target, source.count, "like x")
        share, rest = divmod(source.count, self.world_size)
        if rest:
            self._refuse("all_to_all", f"x has {source.count} elements, not a multiple of {self.world_size} ranks; see all_to_all_v")
        keep = (x, out) if async_op else None
        return self._core.all_to_all(source.pointer, target.pointer, share, source.dtype, algorithm, async_op, keep)

    def all_to_all_v(
        self, out: Any, x: Any, out_counts: Sequence[int], in_counts: Sequence[int], *,
        algorithm: str = "auto", async_op: bool = False,
    ) -> Work | None:  # fmt: skip
        """all_to_all() with shares of any sizes.

        Args:
            out: array of `sum(out_counts)` elements, in other memory than `x`.
            x: array of `sum(in_counts)` elements.
            out_counts: elements that come from each rank.
            in_counts: elements of `x` that go to each rank; must be what that rank expects of this one.
            algorithm: "auto" or "pairwise".
            async_op: return a Work instead of waiting.
        """
        source, target = self._both("all_to_all_v", out, x)
        for name, counts, buffer, array in (
            ("in_counts", in_counts, source, "x"),
            ("out_counts", out_counts, target, "out"),
        ):
            self._check_counts("all_to_all_v", name, counts)
            self._check_size("all_to_all_v", array, buffer, sum(counts), f"the sum of {name}, {list(counts)}")
        return self._core.all_to_all_v(
            source.pointer, target.pointer, list(in_counts), list(out_counts), source.dtype, algorithm, async_op,
            (x, out) if async_op else None,
        )  # fmt: skip

    def gather(
        self, out: Any, x: Any, root: int = 0, *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Put every rank's `x` one behind the other into the root's `out`.

        Args:
            out: array of `n * x.size` elements at the root; may be None elsewhere.
            x: array of the same size and dtype on every rank.
            root: who gets all.
            algorithm: "auto" or one of `ringtree.algorithms("gather")`.
            async_op: return a Work instead of waiting.
        """
        source = self._buffer("gather", "x", x, writable=False)
        pointer = 0
        if self.rank == root:
            target = self._buffer("gather", "out", out, writable=True)
            self._check_size("gather", "out", target, source.count * self.world_size, "all ranks' shares")
            self._check_pair("gather", source, target, share=(target.pointer, source.count * self.rank))
            pointer = target.pointer
        keep = (x, out) if async_op else None
        return self._core.gather(source.pointer, pointer, source.count, source.dtype, root, algorithm, async_op, keep)

    def scatter(
        self, out: Any, x: Any, root: int = 0, *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Send the r-th of n equal shares of the root's `x` to rank r's `out`.

        Args:
            out: array of the same size and dtype on every rank.
            x: array of `n * out.size` elements at the root; may be None elsewhere.
            root: who gives.
            algorithm: "auto" or one of `ringtree.algorithms("scatter")`.
            async_op: return a Work instead of waiting.
        """
        target = self._buffer("scatter", "out", out, writable=True)
        pointer = 0
        if self.rank == root:
            source = self._buffer("scatter", "x", x, writable=False)
            self._check_size("scatter", "x", source, target.count * self.world_size, "all ranks' shares")
            self._check_pair("scatter", source, target, share=(source.pointer, target.count * self.rank))
            pointer = source.pointer
        keep = (x, out) if async_op else None
        return self._core.scatter(pointer, target.pointer, target.count, target.dtype, root, algorithm, async_op, keep)

    def barrier(self, *, algorithm: str = "auto", async_op: bool = False) -> Work | None:
        """Wait until every rank has called it."""
        return self._core.barrier(algorithm, async_op)

    # Two ranks

    def send(self, x: Any, to: int, *, async_op: bool = False) -> Work | None:
        """Send `x` to rank `to`, which calls recv() with an array of the same size and dtype.

        Messages between two ranks keep their order; they run beside collectives.
        """
        data = self._buffer("send", "x", x, writable=False)
        return self._core.send(data.pointer, data.count, data.dtype, to, async_op, x if async_op else None)

    def recv(self, x: Any, source: int, *, async_op: bool = False) -> Work | None:
        """Receive into `x` what rank `source` sends."""
        data = self._buffer("recv", "x", x, writable=True)
        return self._core.recv(data.pointer, data.count, data.dtype, source, async_op, x if async_op else None)

    def sendrecv(self, send: Any, recv: Any, *, to: int, source: int, async_op: bool = False) -> Work | None:
        """Send one array and receive another at the same time, which never blocks a ring of ranks.

        Args:
            send: array for rank `to`.
            recv: array in other memory, of the same dtype, for what rank `source` sends.
            to: the rank that gets `send`.
            source: the rank that sends what goes to `recv`.
            async_op: return a Work instead of waiting.
        """
        target, outgoing = self._buffer("sendrecv", "recv", recv, writable=True), self._buffer("sendrecv", "send", send, writable=False)
        self._check_pair("sendrecv", outgoing, target)
        return self._core.sendrecv(
            outgoing.pointer, outgoing.count, to, target.pointer, target.count, source, target.dtype, async_op,
            (send, recv) if async_op else None,
        )  # fmt: skip

    # Groups and the end

    def split(self, color: int | None, key: int = 0) -> "Communicator | None":
        """One communicator for all ranks that give the same `color`; their order is by `key`, then by rank.

        Collective over this communicator. A rank that gives None takes part in the call and gets None.
        """
        entry = np.array([color is not None, color or 0, key], np.int64)
        table = np.empty((self.world_size, 3), np.int64)
        self.all_gather(table, entry)
        if color is None:
            through_parent(self, [])(b"")
            return None
        members = [rank for rank, (takes_part, its, _) in enumerate(table.tolist()) if takes_part and its == color]
        members.sort(key=lambda rank: (table[rank, 2], rank))
        exchange = through_parent(self, members)
        return Communicator(
            self.transport, members.index(self.rank), len(members), self.timeout, exchange, self._settings
        )

    def chosen(self, collective: str, nbytes: int) -> str:
        """The algorithm that "auto" takes; `nbytes` is the whole buffer, of all ranks' shares together."""
        return self._core.chosen(collective, nbytes)

    def abort(self, reason: str) -> None:
        """End every call that is under way on any rank with Aborted. May be called from any thread."""
        self._core.abort(reason)

    def close(self) -> None:
        """Finish what is queued and leave. A rank that still needs this one gets RankFailure."""
        self._core.close()

    # Checks

    def _refuse(self, call: str, why: str) -> None:
        raise InvalidArgument(
            f"rank {self.rank}, {call}: {why}. Nothing was sent and the communicator stays usable."
        )

    def _op(self, call: str, op: Op) -> tuple[int, float]:
        try:
            return op_code(op)
        except InvalidArgument as error:
            self._refuse(call, str(error))
            raise

    def _buffer(self, call: str, name: str, x: Any, *, writable: bool) -> Buffer:
        try:
            return as_buffer(x, writable=writable)
        except InvalidArgument as error:
            self._refuse(call, f"{name}: {error}")
            raise

    def _in_and_out(self, call: str, x: Any, out: Any, *, writes: bool = True) -> tuple[Buffer, Buffer]:
        """`x` and where its result goes: the same memory if `out` is None."""
        source = self._buffer(call, "x", x, writable=writes and out is None)
        if out is None:
            return source, source
        target = self._buffer(call, "out", out, writable=writes)
        self._check_size(call, "out", target, source.count, "like x")
        self._check_pair(call, source, target, share=(source.pointer, 0))
        return source, target

    def _both(self, call: str, out: Any, x: Any) -> tuple[Buffer, Buffer]:
        """Two arrays of one dtype that share no memory."""
        source = self._buffer(call, "x", x, writable=False)
        target = self._buffer(call, "out", out, writable=True)
        self._check_pair(call, source, target)
        return source, target

    def _check_counts(self, call: str, name: str, counts: Sequence[int]) -> None:
        if len(counts) != self.world_size or any(count < 0 for count in counts):
            self._refuse(call, f"{name} must be {self.world_size} counts, one for each rank, not {list(counts)}")

    def _check_size(self, call: str, name: str, buffer: Buffer, expected: int, what: str) -> None:
        if buffer.count != expected:
            self._refuse(call, f"{name} has {buffer.count} elements, but must have {expected} ({what})")

    def _check_pair(
        self, call: str, source: Buffer, target: Buffer, share: tuple[int, int] | None = None
    ) -> None:
        """One dtype, and no common memory, except that the smaller may be the share at (pointer, elements)."""
        if source.dtype != target.dtype:
            names = _core.DTYPES
            self._refuse(call, f"the arrays' dtypes differ: {names[source.dtype]} in, {names[target.dtype]} out")
        if source.pointer >= target.end or target.pointer >= source.end:
            return
        smaller = source if source.count <= target.count else target
        if share is not None and smaller.pointer == share[0] + share[1] * smaller.itemsize:
            return
        self._refuse(call, "the arrays overlap" + ("" if share is None else ", but not as an in-place call may"))
