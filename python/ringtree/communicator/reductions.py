"""The calls that compute: all_reduce, reduce, reduce_scatter."""

from collections.abc import Sequence

from ringtree._core import Work
from ringtree.buffers import ArrayLike, Buffer
from ringtree.catalogue import Op
from ringtree.communicator.caller import Caller


class Reductions(Caller):
    """Combine what all ranks have.

    float16, bfloat16 and float8 accumulate in float32, integers wrap, min and max propagate NaN. For bool,
    sum, max and bor are "or", prod, min and band are "and". The algorithm fixes the order: the same call
    gives the same bits again.
    """

    def all_reduce(
        self,
        x: ArrayLike,
        op: Op = "sum",
        *,
        out: ArrayLike | None = None,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Combine `x` across all ranks, in place; every rank ends with the same bits.

        Args:
            x: array of any shape, contiguous, the same size and dtype on every rank.
            op: "sum", "prod", "min", "max"; for floats also "avg" and `rt.premul_sum(factor)`; for integers
                and bool also "band", "bor", "bxor".
            out: where the result goes instead, same shape and dtype; `x` stays as it is.
            algorithm: "auto" or one of `rt.algorithms("all_reduce")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: 2(n-1)/n times `x.nbytes` sent by each rank (ring, two-shot).

        Raises:
            InvalidArgument: this rank's arguments are wrong; nothing was sent.
            Mismatch: ranks disagree on size, dtype or op; names both ranks and both calls.
            RankFailure: a rank died or left; `.ranks` names it.
            Timeout: not all ranks arrived within `comm.timeout` seconds; `.ranks` names who did not.
        """
        if not async_op and out is None and algorithm == "auto" and self._quick.all_reduce(x, op):
            return None
        code, factor = self._op("all_reduce", op)
        if algorithm != "auto":
            self._check_algorithm("all_reduce", algorithm)
        if out is None:
            source = target = self._output("all_reduce", "x", x)
        else:
            source, target = self._pair("all_reduce", x, out)
        return self._core.all_reduce(
            source.pointer,
            target.pointer,
            source.count,
            source.dtype,
            code,
            factor,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place("all_reduce", source, target),
        )

    def reduce(
        self,
        x: ArrayLike,
        root: int = 0,
        op: Op = "sum",
        *,
        out: ArrayLike | None = None,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Combine `x` across all ranks, in place on the rank `root`; elsewhere `x` stays as it is.

        Args:
            x: array of any shape, contiguous, the same size and dtype on every rank.
            root: the rank that gets the result, the same on every rank.
            op: as for all_reduce.
            out: on `root`, where the result goes instead, same shape and dtype; elsewhere ignored.
            algorithm: "auto" or one of `rt.algorithms("reduce")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: `x.nbytes` sent by each rank but the root.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where roots differ.
        """
        if (
            not async_op
            and algorithm == "auto"
            and (out is None or root != self._rank)
            and self._quick.reduce(x, root, op)
        ):
            return None
        code, factor = self._op("reduce", op)
        root = self._peer("reduce", "root", root)
        if algorithm != "auto":
            self._check_algorithm("reduce", algorithm)
        if root != self._rank:
            source = target = self._input("reduce", "x", x)
        elif out is None:
            source = target = self._output("reduce", "x", x)
        else:
            source, target = self._pair("reduce", x, out)
        return self._core.reduce(
            source.pointer,
            target.pointer,
            source.count,
            source.dtype,
            code,
            factor,
            root,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place("reduce", source, target),
        )

    def reduce_scatter(
        self,
        out: ArrayLike,
        x: ArrayLike,
        op: Op = "sum",
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Combine `x` across all ranks and share the result: rank r gets the r-th of n equal parts.

        Args:
            out: array for this rank's part, contiguous, the same size and dtype on every rank.
            x: array of n times as many elements, contiguous; in place, `out` is exactly this rank's part.
            op: as for all_reduce.
            algorithm: "auto" or one of `rt.algorithms("reduce_scatter")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: (n-1)/n times `x.nbytes` sent by each rank.

        Raises:
            RingtreeError: as all_reduce.
        """
        if not async_op and algorithm == "auto" and self._quick.reduce_scatter(out, x, op):
            return None
        call = "reduce_scatter"
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        self._check_size(call, "x", source, target.count * self._world, f"{self._world} times those of out")
        return self._shared(call, target, source, [target.count] * self._world, op, algorithm, async_op)

    def reduce_scatter_v(
        self,
        out: ArrayLike,
        x: ArrayLike,
        counts: Sequence[int],
        op: Op = "sum",
        *,
        algorithm: str = "auto",
        async_op: bool = False,
    ) -> Work | None:
        """Like reduce_scatter, but parts may differ: rank r gets `counts[r]` elements, 0 or more.

        Args:
            out: array for this rank's part, `counts[rank]` elements, contiguous.
            x: array of `sum(counts)` elements, contiguous; in place, `out` is exactly this rank's part.
            counts: elements of each rank, the same on every rank.
            op: as for all_reduce.
            algorithm: "auto" or one of `rt.algorithms("reduce_scatter")`.
            async_op: return a Work at once; wait() for it before touching `x` or `out`.

        Cost: `x.nbytes` less this rank's part, sent by each rank.

        Raises:
            RingtreeError: as all_reduce; Mismatch also where counts differ.
        """
        call = "reduce_scatter_v"
        target, source = self._output(call, "out", out), self._input(call, "x", x)
        numbers = self._counts(call, "counts", counts, source, "x")
        own = numbers[self._rank]
        self._check_size(call, "out", target, own, f"counts[{self._rank}] is {own}")
        return self._shared(call, target, source, numbers, op, algorithm, async_op)

    def _shared(
        self,
        call: str,
        target: Buffer,
        source: Buffer,
        counts: list[int],
        op: Op,
        algorithm: str,
        async_op: bool,
    ) -> Work | None:
        code, factor = self._op(call, op)
        if algorithm != "auto":
            self._check_algorithm("reduce_scatter", algorithm)
        self._check_same_dtype(call, source, target)
        self._check_apart_or_slice(
            call, target, source, sum(counts[: self._rank]), "out is exactly this rank's part of x"
        )
        return self._core.reduce_scatter(
            source.pointer,
            target.pointer,
            counts,
            source.dtype,
            code,
            factor,
            algorithm,
            async_op,
            (source.owner, target.owner),
            self._place(call, source, target),
        )

    def _pair(self, call: str, x: ArrayLike, out: ArrayLike) -> tuple[Buffer, Buffer]:
        """`x`, and `out` that looks like it: the same memory, or memory apart."""
        source, target = self._input(call, "x", x), self._output(call, "out", out)
        self._check_same_dtype(call, source, target)
        shape, given = getattr(x, "shape", (source.count,)), getattr(out, "shape", (target.count,))
        if tuple(given) != tuple(shape):
            raise self._refusal(call, f"out has the shape {tuple(given)}, but x has {tuple(shape)}")
        self._check_apart_or_slice(call, target, source, 0, "out is x itself")
        return source, target
