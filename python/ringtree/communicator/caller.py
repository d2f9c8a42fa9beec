"""Who calls: the rank behind every method, and the checks that turn arguments into what the core takes.

What is refused here or in the core before anything was sent is an InvalidArgument, whose text names the rank
and the call. The checks that need other ranks (the same call, size and type everywhere) are the core's.
"""

import operator
from collections.abc import Iterable

from ringtree import _core
from ringtree.buffers import ArrayLike, Buffer, Place, as_buffer
from ringtree.catalogue import Op, op_code
from ringtree.errors import InvalidArgument, RingtreeError


class Caller:
    """A rank of a communicator. Methods take the name of the call that they check arguments for."""

    def __init__(self, core: _core.Communicator) -> None:
        self._core = core
        self._quick = _core.Quick(core)
        self._rank = core.rank
        self._world = core.world

    def _refusal(self, call: str, why: object, kind: type[RingtreeError] = InvalidArgument) -> RingtreeError:
        return kind(f"rank {self._rank}, {call}: {why}. Nothing was sent and the communicator stays usable.")

    def _input(self, call: str, name: str, x: ArrayLike) -> Buffer:
        try:
            return as_buffer(x, False)
        except InvalidArgument as error:
            raise self._refusal(call, f"{name} cannot be sent: {error}") from None

    def _output(self, call: str, name: str, x: ArrayLike) -> Buffer:
        try:
            return as_buffer(x, True)
        except InvalidArgument as error:
            raise self._refusal(call, f"{name} cannot take the result: {error}") from None

    def _place(self, call: str, *buffers: Buffer | None) -> Place | None:
        """Where all of them are: None on the CPU, else a GPU and the stream to work on."""
        places = {buffer.place: None for buffer in buffers if buffer is not None and buffer.count > 0}
        if len(places) > 1:
            raise self._refusal(
                call,
                f"all arrays of a call must be in one place, not on {' and '.join(map(_in_words, places))}",
            )
        if places:
            return next(iter(places))
        return next((buffer.place for buffer in buffers if buffer is not None), None)

    def _op(self, call: str, op: Op) -> tuple[int, float]:
        try:
            return op_code(op)
        except InvalidArgument as error:
            raise self._refusal(call, error) from None

    def _check_algorithm(self, collective: str, name: str) -> None:
        known = _core.algorithms(collective)
        if name not in known:
            raise self._refusal(
                collective, f"there is no algorithm {name!r}; there are auto, {', '.join(known)}"
            )

    def _peer(self, call: str, name: str, rank: int) -> int:
        """A rank that the user named; NumPy's integers are numbers too."""
        try:
            index = operator.index(rank)
        except TypeError:
            index = -1
        if not 0 <= index < self._world:
            raise self._refusal(
                call, f"{name} must be a rank of this world, 0 to {self._world - 1}, not {rank!r}"
            )
        return index

    def _counts(self, call: str, name: str, counts: Iterable[int], total: Buffer, what: str) -> list[int]:
        """Elements of every rank, which together make `total`."""
        try:
            numbers = [operator.index(count) for count in counts]
        except TypeError:
            numbers = []
        if len(numbers) != self._world or min(numbers) < 0:
            raise self._refusal(
                call, f"{name} must be {self._world} numbers of elements, one for each rank, not {counts!r}"
            )
        if sum(numbers) != total.count:
            raise self._refusal(call, f"{name} add up to {sum(numbers)} elements, but {what} holds {total}")
        return numbers

    def _check_same_dtype(
        self, call: str, x: Buffer, out: Buffer, names: tuple[str, str] = ("x", "out")
    ) -> None:
        if x.dtype != out.dtype:
            raise self._refusal(call, f"{names[0]} is {x} but {names[1]} is {out}: they must have one type")

    def _check_size(self, call: str, name: str, given: Buffer, expected: int, because: str) -> None:
        if given.count != expected:
            raise self._refusal(call, f"{name} is {given}, but must have {expected} elements: {because}")

    def _check_apart(
        self, call: str, one: Buffer, other: Buffer, names: tuple[str, str] = ("x", "out")
    ) -> None:
        """Refuse buffers that share memory."""
        if (
            one.pointer < other.pointer + other.nbytes
            and other.pointer < one.pointer + one.nbytes
            and one.count * other.count > 0
        ):
            raise self._refusal(call, f"{names[0]} and {names[1]} overlap in memory")

    def _check_apart_or_slice(self, call: str, part: Buffer, whole: Buffer, offset: int, form: str) -> None:
        """Refuse buffers that share memory, unless `part` begins `offset` elements into `whole`."""
        if part.pointer == whole.pointer + offset * _core.ITEMSIZES[whole.dtype]:
            return
        try:
            self._check_apart(call, part, whole)
        except InvalidArgument:
            raise self._refusal(call, f"x and out overlap in memory; in place, {form}") from None


def _in_words(place: Place | None) -> str:
    if place is None:
        return "the CPU"
    device, stream = place
    return f"stream {stream} of {'a GPU' if device < 0 else f'GPU {device}'}"
