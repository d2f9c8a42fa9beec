"""All ranks of a world on one GPU, launched together."""

from collections.abc import Callable, Sequence
from functools import partial

from ringtree import _core
from ringtree.buffers import ArrayLike, Buffer, as_buffer
from ringtree.catalogue import Op, op_code
from ringtree.errors import InvalidArgument
from ringtree.tuning import ON_GPU, read_settings


class VirtualRanks:
    """A world whose ranks exist on one GPU only: one cooperative launch runs a collective of all of them.

    For tests and measurements of the kernels: they are those that ranks in processes or threads run, without
    the time that several launches take. The GPU refuses a launch of ranks that it cannot hold at once.
    """

    def __init__(self, world: int, *, timeout: float = 60) -> None:
        """Memory for the links of `world` ranks, 1 to 16, on the current GPU.

        Args:
            world: how many ranks.
            timeout: seconds after which a kernel gives up waiting.

        Raises:
            InvalidArgument: so many do not fit.
            TransportError: there is no GPU, or no CUDA fabric.
        """
        self._core = _core.VirtualRanks(world)
        settings = read_settings()
        for collective, rules in settings.rules_for(ON_GPU, world):
            self._core.prefer(collective, rules)
        for collective, nbytes in settings.packets_for(world):
            self._core.packets(collective, nbytes)
        self._timeout = timeout

    @property
    def world_size(self) -> int:
        """Ranks."""
        return self._core.world

    def chosen(self, collective: str, nbytes: int) -> str:
        """The algorithm that "auto" takes: see Communicator.chosen."""
        return self._core.chosen(collective, nbytes)

    def run(
        self,
        collective: str,
        inputs: Sequence[ArrayLike],
        outputs: Sequence[ArrayLike],
        *,
        op: Op = "sum",
        root: int = 0,
        algorithm: str = "auto",
    ) -> None:
        """Enqueue one collective of all ranks on the current stream of the arrays' library.

        See `prepare`, which this is, and a call.
        """
        self.prepare(collective, inputs, outputs, op=op, root=root, algorithm=algorithm)()

    def prepare(
        self,
        collective: str,
        inputs: Sequence[ArrayLike],
        outputs: Sequence[ArrayLike],
        *,
        op: Op = "sum",
        root: int = 0,
        algorithm: str = "auto",
    ) -> Callable[[], None]:
        """A function that enqueues one collective of all ranks on what is the current stream now.

        What costs time on the host, which is all that depends on the arrays, is done once.

        Args:
            collective: one of `rt.COLLECTIVES`.
            inputs: an array a rank, as that rank would pass it; for broadcast the same as `outputs`.
            outputs: an array a rank, for the result; every rank has one, also where only the root's is used.
            op: as for all_reduce, except premul_sum.
            root: where there is one.
            algorithm: "auto" or one of `rt.algorithms(collective)` that has a kernel.

        Raises:
            InvalidArgument: an argument is wrong; the function raises it where only the core can see that.
        """
        sources = [as_buffer(x, False) for x in inputs]
        targets = [as_buffer(x, True) for x in outputs]
        if any(buffer.place is None for buffer in (*sources, *targets)):
            raise InvalidArgument("virtual ranks need arrays on a GPU")
        self._check(sources)
        self._check(targets)
        first, result = sources[0], targets[0]
        assert first.place is not None
        count = self._count(collective, first, result)
        return partial(
            self._core.run,
            collective,
            algorithm,
            [x.pointer for x in sources],
            [x.pointer for x in targets],
            count,
            first.dtype,
            op_code(op)[0],
            root,
            self._timeout,
            first.place[1],
        )

    def check(self) -> None:
        """Raise if a kernel has given up; to be called when they are over.

        Raises:
            Timeout: a rank waited for another in vain. Create new ones.
        """
        self._core.check_fault()

    def _count(self, collective: str, first: Buffer, result: Buffer) -> int:
        """Elements of a rank's share, or of all that a rank has, as the core counts them."""
        n = self.world_size
        inputs, outputs = {
            "all_gather": (1, n),
            "gather": (1, n),
            "reduce_scatter": (n, 1),
            "scatter": (n, 1),
            "all_to_all": (n, n),
        }.get(collective, (1, 1))
        count = first.count // inputs
        if (count * inputs, count * outputs, first.dtype) != (first.count, result.count, result.dtype):
            raise InvalidArgument(
                f"virtual ranks: inputs are {first} but outputs are {result}; {collective} needs {inputs} "
                f"and {outputs} parts of one size and type"
            )
        return count

    def _check(self, buffers: list[Buffer]) -> None:
        kinds = {(buffer.count, buffer.dtype) for buffer in buffers}
        if len(kinds) != 1 or len(buffers) != self.world_size:
            raise InvalidArgument(
                f"virtual ranks: there must be {self.world_size} arrays of one size and type, "
                f"not {', '.join(map(str, buffers))}"
            )
