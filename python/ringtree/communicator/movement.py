"""The calls that only move: broadcast, all_gather, all_to_all, gather, scatter."""

from collections.abc import Sequence

from ringtree._core import Work
from ringtree.buffers import ArrayLike, Buffer
from ringtree.communicator.caller import Caller


class Movement(Caller):
    """Bring to ranks what other ranks have. Elements of any supported type move bit by bit."""

    def broadcast(
        self, x: ArrayLike, root: int = 0, *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Bring `x` of the rank `root` to all ranks, in place.

        Args:
            x: array of any shape, contiguous, the same size and dtype on every rank; only read on `root`.
            root: the rank that has the data, the same on every rank.
            algorithm: "auto" or one of `rt.algorithms("broadcast")`.
            async_op: return a Work at once; wait() for it before touching `x`.

        Cost: `x.nbytes` received by each rank but the root.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where roots differ.
        """
        if not async_op and algorithm == "auto" and self._quick.broadcast(x, root):
            return None
        root = self._peer("broadcast", "root", root)
        if algorithm != "auto":
            self._check_algorithm("broadcast", algorithm)
        buffer = (self._input if root == self._rank else self._output)("broadcast", "x", x)
        return self._core.broadcast(
            buffer.pointer,
            buffer.count,
            buffer.dtype,
            root,
            algorithm,
            async_op,
            buffer.owner,
            buffer.place,
        )

    def all_gather(
        self, out: ArrayLike, x: ArrayLike, *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Bring every rank's `x` to all ranks: the r-th of n equal parts of `out` is that of rank r.

        Args:
            out: array of n times as many elements as `x`, contiguous.
            x: array, contiguous, the same size and dtype on every rank; in place, it is exactly this rank's
                part of `out`.
            algorithm: "auto" or one of `rt.algorithms("all_gather")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: (n-1)/n times `out.nbytes` sent by each rank.

        Raises:
            RingtreeError: as all_reduce.
        """
        if not async_op and algorithm == "auto" and self._quick.all_gather(out, x):
            return None
        call = "all_gather"
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        self._check_size(call, "out", target, source.count * self._world, f"{self._world} times those of x")
        return self._gathered(call, target, source, [source.count] * self._world, algorithm, async_op)

    def all_gather_v(
        self,
        out: ArrayLike,
        x: ArrayLike,
        counts: Sequence[int],
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Like all_gather, but parts may differ: rank r gives `counts[r]` elements, 0 or more.

        Args:
            out: array of `sum(counts)` elements, contiguous.
            x: array of `counts[rank]` elements, contiguous; in place, exactly this rank's part of `out`.
            counts: elements of each rank, the same on every rank.
            algorithm: "auto" or one of `rt.algorithms("all_gather")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: `out.nbytes` less this rank's part, received by each rank.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where counts differ.
        """
        call = "all_gather_v"
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        numbers = self._counts(call, "counts", counts, target, "out")
        own = numbers[self._rank]
        self._check_size(call, "x", source, own, f"counts[{self._rank}] is {own}")
        return self._gathered(call, target, source, numbers, algorithm, async_op)

    def _gathered(
        self, call: str, target: Buffer, source: Buffer, counts: list[int], algorithm: str, async_op: bool
    ) -> Work | None:
        if algorithm != "auto":
            self._check_algorithm("all_gather", algorithm)
        self._check_same_dtype(call, source, target)
        self._check_apart_or_slice(
            call, source, target, sum(counts[: self._rank]), "x is exactly this rank's part of out"
        )
        return self._core.all_gather(
            source.pointer,
            target.pointer,
            counts,
            source.dtype,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place(call, source, target),
        )

    def all_to_all(
        self, out: ArrayLike, x: ArrayLike, *, algorithm: str = "auto", async_op: bool = False
    ) -> Work | None:
        """Exchange parts: the s-th of n equal parts of `x` goes to rank s, as the part of `out` of this rank.

        Args:
            out: array of as many elements as `x`, contiguous, apart from it in memory.
            x: array of n equal parts, contiguous, the same size and dtype on every rank.
            algorithm: "auto" or one of `rt.algorithms("all_to_all")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: (n-1)/n times `x.nbytes` sent by each rank.

        Raises:
            RingtreeError: as all_reduce.
        """
        if not async_op and algorithm == "auto" and self._quick.all_to_all(out, x):
            return None
        call = "all_to_all"
        if algorithm != "auto":
            self._check_algorithm(call, algorithm)
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        share, rest = divmod(source.count, self._world)
        if rest:
            raise self._refusal(call, f"x is {source}, which makes no {self._world} equal parts")
        self._check_size(call, "out", target, source.count, "as many as x has")
        self._check_same_dtype(call, source, target)
        self._check_apart(call, source, target)
        return self._core.all_to_all(
            source.pointer,
            target.pointer,
            share,
            source.dtype,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place(call, source, target),
        )

    def all_to_all_v(
        self,
        out: ArrayLike,
        x: ArrayLike,
        out_counts: Sequence[int],
        in_counts: Sequence[int],
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Like all_to_all, but parts may differ.

        Args:
            out: array of `sum(out_counts)` elements, contiguous, apart from `x` in memory.
            x: array of `sum(in_counts)` elements, contiguous.
            out_counts: elements that come from each rank: what that rank has in its `in_counts` for this one.
            in_counts: elements that go to each rank.
            algorithm: "auto" or one of `rt.algorithms("all_to_all")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: `x.nbytes` less the part that stays, sent by each rank.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where two ranks' counts for each other differ.
        """
        call = "all_to_all_v"
        if algorithm != "auto":
            self._check_algorithm("all_to_all", algorithm)
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        arriving = self._counts(call, "out_counts", out_counts, target, "out")
        leaving = self._counts(call, "in_counts", in_counts, source, "x")
        self._check_same_dtype(call, source, target)
        self._check_apart(call, source, target)
        return self._core.all_to_all_v(
            source.pointer,
            target.pointer,
            leaving,
            arriving,
            source.dtype,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place(call, source, target),
        )

    def gather(
        self,
        out: ArrayLike | None,
        x: ArrayLike,
        root: int = 0,
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Bring every rank's `x` to the rank `root`: the r-th of n equal parts of `out` is that of rank r.

        Args:
            out: on `root`, array of n times as many elements as `x`, contiguous, apart from `x` in memory;
                elsewhere ignored, best None.
            x: array, contiguous, the same size and dtype on every rank.
            root: the rank that gets all, the same on every rank.
            algorithm: "auto" or one of `rt.algorithms("gather")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: `x.nbytes` sent by each rank but the root.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where roots differ.
        """
        if not async_op and algorithm == "auto" and self._quick.gather(out, x, root):
            return None
        root = self._peer("gather", "root", root)
        if algorithm != "auto":
            self._check_algorithm("gather", algorithm)
        part = self._input("gather", "x", x)
        whole = None
        if root == self._rank:
            whole = self._whole("gather", "out", self._output("gather", "out", out), part)
        return self._core.gather(
            part.pointer,
            whole.pointer if whole else 0,
            part.count,
            part.dtype,
            root,
            algorithm,
            async_op,
            (part.owner, whole.owner if whole else None),
            self._place("gather", part, whole),
        )

    def scatter(
        self,
        out: ArrayLike,
        x: ArrayLike | None,
        root: int = 0,
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Share what the rank `root` has: rank r gets the r-th of n equal parts of its `x`.

        Args:
            out: array for this rank's part, contiguous, the same size and dtype on every rank.
            x: on `root`, array of n times as many elements, contiguous, apart from `out` in memory; elsewhere
                ignored, best None.
            root: the rank that has the data, the same on every rank.
            algorithm: "auto" or one of `rt.algorithms("scatter")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: (n-1)/n times `x.nbytes` sent by the root.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where roots differ.
        """
        if not async_op and algorithm == "auto" and self._quick.scatter(out, x, root):
            return None
        root = self._peer("scatter", "root", root)
        if algorithm != "auto":
            self._check_algorithm("scatter", algorithm)
        part = self._output("scatter", "out", out)
        whole = None
        if root == self._rank:
            whole = self._whole("scatter", "x", self._input("scatter", "x", x), part)
        return self._core.scatter(
            whole.pointer if whole else 0,
            part.pointer,
            part.count,
            part.dtype,
            root,
            algorithm,
            async_op,
            (part.owner, whole.owner if whole else None),
            self._place("scatter", part, whole),
        )

    def _whole(self, call: str, name: str, whole: Buffer, part: Buffer) -> Buffer:
        """Check what the root has of all ranks against its own part."""
        other = "x" if name == "out" else "out"
        self._check_size(call, name, whole, part.count * self._world, f"{self._world} times those of {other}")
        self._check_same_dtype(call, part, whole, (other, name))
        self._check_apart(call, part, whole)
        return whole
