"""One contract case: a call as every rank makes it, what it must leave behind, and who checks what.

Each rank (`run_cases`) makes the call twice on poisoned outputs and looks at what only it can see: that the
same call gave the same bits and that its input did not change. The test (`check`) then holds the results of
all ranks against the reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ringtree as rt
from contract import reference
from contract.reference import NUMPY_TYPES, Array

IN_PLACE, APART, MISALIGNED, ASYNC = "in place", "apart", "misaligned", "async"
FORMS = (IN_PLACE, APART, MISALIGNED, ASYNC)
REDUCTIONS = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_v")


@dataclass(frozen=True)
class Case:
    """The arguments of a call. `counts` holds each rank's share in the v forms, where `count` is not used."""

    collective: str
    algorithm: str
    dtype: str
    count: int
    op: str = "sum"
    form: str = APART
    root: int = 0
    counts: tuple[int, ...] = ()
    rounds: bool = (
        False  # whether the input has to be rounded on the way: then the bits may depend on the order
    )
    seed: int = 0

    def share(self, rank: int) -> int:
        """Elements of a rank's share."""
        return self.counts[rank] if self.counts else self.count

    def shares(self, world: int) -> list[int]:
        """Elements of each rank's share."""
        return [self.share(rank) for rank in range(world)]

    def pair(self, sender: int, receiver: int) -> int:
        """Elements from one rank to another in all_to_all_v, as odd as the counts themselves."""
        return (self.counts[sender] * 3 + self.counts[receiver] + sender) % (max(self.counts) + 2)


def input_of(case: Case, rank: int, world: int) -> Array:
    """What a rank passes in; anyone can make anyone's."""
    generator = np.random.default_rng((case.seed, rank))
    match case.collective:
        case "reduce_scatter" | "reduce_scatter_v" | "all_to_all" | "scatter":
            count = sum(case.shares(world))
        case "all_to_all_v":
            count = sum(case.pair(rank, receiver) for receiver in range(world))
        case _:
            count = case.share(rank)
    if case.collective not in REDUCTIONS:
        return reference.any_bytes(generator, case.dtype, count)
    make = reference.random_input if case.rounds else reference.exact_input
    return make(generator, case.dtype, case.op, count)


def output_size(case: Case, rank: int, world: int) -> int:
    """Elements of a rank's result."""
    match case.collective:
        case "all_gather" | "all_gather_v":
            return sum(case.shares(world))
        case "gather":
            return sum(case.shares(world)) if rank == case.root else 0
        case "all_to_all":
            return case.count * world
        case "all_to_all_v":
            return sum(case.pair(sender, rank) for sender in range(world))
        case _:
            return case.share(rank)


# Poisoned memory, off the alignment of its own elements' vectors if the case says so; an array that NumPy reads.
Allocate = Callable[[rt.Communicator, Case, int], Any]


def on_the_host(comm: rt.Communicator, case: Case, count: int) -> Array:
    """An `Allocate`."""
    skipped = 1 if case.form == MISALIGNED else 0
    empty = comm.empty if case.algorithm == "zero_copy" else np.empty
    array = empty(count + skipped, NUMPY_TYPES[case.dtype])
    array.view(np.uint8)[:] = 1 if case.dtype == "bool" else 0xA5
    return array[skipped:]


@dataclass(frozen=True)
class Placed:
    """The arrays of a call, and the call: it may be made again and again, on what they hold then."""

    case: Case
    rank: int
    given: Any  # what the call is given
    out: Any  # what else it may write
    result: Any  # where this rank's result will be, if it gets one
    call: Callable[[], rt.Work | None]

    def look(self, x: Array) -> Array | None:
        """What this rank has got, once the call on `x` is over. What must not change must not have changed."""
        reads_only = self.case.form != IN_PLACE and self.case.collective != "broadcast"
        if reads_only or (self.case.collective == "reduce" and self.rank != self.case.root):
            assert same_bits(self.given, x), f"{self.case}: rank {self.rank}'s input changed"
        return None if self.result is None else np.asarray(self.result)


@dataclass(frozen=True)
class Started:
    """A call under way, or done if it blocked."""

    placed: Placed
    x: Array  # what the call was given, as it was before
    work: rt.Work | None

    def finish(self) -> Array | None:
        """Waits; returns what this rank has got."""
        if self.work is not None:
            self.work.wait()
        return self.placed.look(self.x)


def start(comm: rt.Communicator, case: Case, x: Array, allocate: Allocate = on_the_host) -> Started:
    """Makes the call on a copy of `x`, with poisoned memory for the result."""
    placed = place(comm, case, x.size, allocate)
    placed.given[:] = x
    return Started(placed, x, placed.call())


def place(comm: rt.Communicator, case: Case, count: int, allocate: Allocate = on_the_host) -> Placed:
    """Poisoned memory for `count` elements of input, and for the result."""
    world, rank = comm.world_size, comm.rank
    in_place = case.form == IN_PLACE
    begin = sum(case.shares(world)[:rank])
    given = allocate(comm, case, count)
    out = allocate(comm, case, output_size(case, rank, world))
    keywords: dict[str, Any] = {"algorithm": case.algorithm, "async_op": case.form == ASYNC}
    counts = [list(case.counts)] if case.counts else []
    op = reference.operation(case.op)
    result = out
    arguments: tuple[Any, ...]
    match case.collective:
        case "all_reduce":
            arguments = (given, op)
            keywords["out"] = None if in_place else out
            result = given if in_place else out
        case "reduce":
            arguments = (given, case.root, op)
            keywords["out"] = None if in_place else out
            result = (given if in_place else out) if rank == case.root else None
        case "reduce_scatter" | "reduce_scatter_v":
            if in_place:
                out = result = given[begin : begin + case.share(rank)]
            arguments = (out, given, *counts, op)
        case "broadcast":
            arguments = (given, case.root)
            result = given
        case "all_gather" | "all_gather_v":
            if in_place:
                given = out[begin : begin + count]
            arguments = (out, given, *counts)
        case "all_to_all":
            arguments = (out, given)
        case "all_to_all_v":
            received = [case.pair(peer, rank) for peer in range(world)]
            sent = [case.pair(rank, peer) for peer in range(world)]
            arguments = (out, given, received, sent)
        case "gather":
            result = out if rank == case.root else None
            arguments = (result, given, case.root)
        case "scatter":
            arguments = (out, given if rank == case.root else None, case.root)
        case _:
            raise KeyError(
                f"the contract tests do not know {case.collective}: add it to tests/contract/cases.py"
            )
    call = partial(getattr(comm, case.collective), *arguments, **keywords)
    return Placed(case, rank, given, out, result, call)


Result = Array | str | None


def run_cases(comm: rt.Communicator, cases: Sequence[Case], allocate: Allocate = on_the_host) -> list[Result]:
    """Runs on every rank: the result of each case; the text of the error where the call is refused."""
    results: list[Result] = []
    for case in cases:
        x = input_of(case, comm.rank, comm.world_size)
        try:
            first, second = (start(comm, case, x, allocate).finish() for _ in range(2))
        except rt.InvalidArgument as error:
            results.append(str(error))
            continue
        if first is not None and second is not None:
            assert same_bits(first, second), (
                f"{case}: rank {comm.rank} got other bits from the same call again"
            )
        results.append(first)
    return results


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays are the same, NaNs and signs of zeros included."""
    return one.tobytes() == other.tobytes()


def check(case: Case, results: Sequence[Result]) -> None:
    """Holds the results of all ranks against the reference."""
    world = len(results)
    refusals = [result for result in results if isinstance(result, str)]
    assert not refusals, f"{case}: {refusals}"
    inputs = [input_of(case, rank, world) for rank in range(world)]
    expected = expected_of(case, inputs)
    for rank, result in enumerate(results):
        assert result is None or isinstance(result, np.ndarray)
        check_rank(case, inputs, rank, result, expected[rank])
    if case.collective in ("all_reduce", "broadcast", "all_gather", "all_gather_v"):
        assert len({result.tobytes() for result in results if isinstance(result, np.ndarray)}) == 1, (
            f"{case}: the ranks' bits differ"
        )


def check_rank(
    case: Case, inputs: Sequence[Array], rank: int, got: Array | None, expected: Array | None
) -> None:
    """Holds the result of one rank against what it must get; `inputs` are those of all ranks."""
    where = f"{case}, rank {rank} of {len(inputs)}"
    if expected is None:
        assert got is None, where
        return
    assert got is not None, where
    assert got.shape == expected.shape, where
    try:
        _compare(case, got, expected, inputs, rank)
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from None


def _compare(case: Case, got: Array, expected: Array, inputs: Sequence[Array], rank: int) -> None:
    if case.collective not in REDUCTIONS:
        assert same_bits(got, expected), "the bytes are not those that were sent"
        return
    if case.dtype == "bool":
        assert set(np.unique(got.view(np.uint8))) <= {0, 1}, "a bool is neither 0 nor 1"
    if not case.rounds:
        reference.check_exact(got, expected, case.dtype, case.op)
        return
    part = slice(None)
    if case.collective.startswith("reduce_scatter"):
        begin = sum(case.shares(len(inputs))[:rank])
        part = slice(begin, begin + case.share(rank))
    reference.check_close(got, [x[part] for x in inputs], case.dtype, case.op)


def expected_of(case: Case, inputs: Sequence[Array]) -> list[Array | None]:
    """What each rank must get; a reduction in float64 or int64, what is only moved as it is."""
    world = len(inputs)
    cuts = np.cumsum(case.shares(world))[:-1]

    def at_root(result: Array) -> list[Array | None]:
        return [result if rank == case.root else None for rank in range(world)]

    match case.collective:
        case "all_reduce":
            return [reference.reduced(inputs, case.dtype, case.op)] * world
        case "reduce":
            return at_root(reference.reduced(inputs, case.dtype, case.op))
        case "reduce_scatter" | "reduce_scatter_v":
            return list(np.split(reference.reduced(inputs, case.dtype, case.op), cuts))
        case "broadcast":
            return [inputs[case.root]] * world
        case "all_gather" | "all_gather_v":
            return [np.concatenate(inputs)] * world
        case "gather":
            return at_root(np.concatenate(inputs))
        case "scatter":
            return list(np.split(inputs[case.root], cuts))
        case "all_to_all":
            return [np.concatenate([np.split(x, world)[rank] for x in inputs]) for rank in range(world)]
        case "all_to_all_v":
            shares = [
                np.split(x, np.cumsum([case.pair(sender, receiver) for receiver in range(world)])[:-1])
                for sender, x in enumerate(inputs)
            ]
            return [np.concatenate([row[rank] for row in shares]) for rank in range(world)]
    raise KeyError(case.collective)


def forms_of(collective: str) -> tuple[str, ...]:
    """The forms that a collective has."""
    return (
        FORMS
        if collective.partition("_v")[0] in ("all_reduce", "reduce", "all_gather", "reduce_scatter")
        else FORMS[1:]
    )


def ops_of(collective: str) -> tuple[str, ...]:
    """All operations for what reduces, one for what does not."""
    return rt.OPS if collective in REDUCTIONS else ("sum",)


def has_root(collective: str) -> bool:
    """Whether the collective takes a root."""
    return collective in ("reduce", "broadcast", "gather", "scatter")
