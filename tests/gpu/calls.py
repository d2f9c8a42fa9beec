"""One call of each kind on arrays of whatever library, held against the reference of tests/contract."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import ringtree as rt
from contract.cases import REDUCTIONS, Case, Result, check, has_root, input_of, output_size
from contract.reference import NUMPY_TYPES, Array, operation


class Library(Protocol):
    """What makes arrays on a GPU, and reads them, on the stream that is current in it."""

    def on_gpu(self, values: Array) -> Any:
        """A copy."""

    def on_host(self, array: Any) -> Array:
        """A copy."""


Call = Callable[[rt.Communicator, Case, Any, Any], object]

# (comm, case, input, output)
CALLS: dict[str, Call] = {
    "all_reduce": lambda comm, case, x, out: comm.all_reduce(x, operation(case.op), out=out),
    "reduce": lambda comm, case, x, out: comm.reduce(x, case.root, operation(case.op), out=out),
    "reduce_scatter": lambda comm, case, x, out: comm.reduce_scatter(out, x, operation(case.op)),
    "broadcast": lambda comm, case, x, out: comm.broadcast(x, case.root),
    "all_gather": lambda comm, case, x, out: comm.all_gather(out, x),
    "all_to_all": lambda comm, case, x, out: comm.all_to_all(out, x),
    "gather": lambda comm, case, x, out: comm.gather(out if comm.rank == case.root else None, x, case.root),
    "scatter": lambda comm, case, x, out: comm.scatter(out, x if comm.rank == case.root else None, case.root),
}


def cases(dtypes: Sequence[str], counts: Sequence[int], seed: int) -> list[Case]:
    """Every collective with every type; sizes take turns."""
    made = []
    for number, (collective, dtype) in enumerate((c, d) for d in dtypes for c in CALLS):
        count, root = counts[number % len(counts)], number % 2 if has_root(collective) else 0
        made.append(Case(collective, "auto", dtype, count, root=root, rounds=True, seed=seed + number))
    return made


def poison(count: int, dtype: str) -> Array:
    """For what a call is to overwrite."""
    kind = NUMPY_TYPES[dtype]
    return np.full(count * kind.itemsize, 1 if dtype == "bool" else 0xA5, np.uint8).view(kind)


def run(comm: rt.Communicator, sequence: Sequence[Case], library: Library) -> list[Result]:
    """This rank's results. Nothing waits before all calls have been made."""
    pending = []
    for case in sequence:
        x = library.on_gpu(input_of(case, comm.rank, comm.world_size))
        out = library.on_gpu(poison(output_size(case, comm.rank, comm.world_size), case.dtype))
        pending.append((case, x, out))
    for case, x, out in pending:
        assert CALLS[case.collective](comm, case, x, out) is None
    comm.synchronize()  # before copies to the host, which may hold up ranks that are threads: docs/gpu.md
    results: list[Result] = []
    for case, x, out in pending:
        has_result = case.collective not in ("reduce", "gather") or comm.rank == case.root
        results.append(library.on_host(x if case.collective == "broadcast" else out) if has_result else None)
        if case.collective in REDUCTIONS:
            given = input_of(case, comm.rank, comm.world_size)
            assert library.on_host(x).tobytes() == given.tobytes(), f"{case}: the input changed"
    return results


def check_all(sequence: Sequence[Case], by_rank: Sequence[Sequence[Result]]) -> None:
    for case, *results in zip(sequence, *by_rank, strict=True):
        check(case, results)


def exchange(comm: rt.Communicator, library: Library, count: int, seed: int) -> None:
    """Messages round a circle: each rank's to the next, alone, and at once."""
    after, before = (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size
    values = [np.random.default_rng([seed, rank]).normal(size=count) for rank in range(comm.world_size)]
    x, one, other = (
        library.on_gpu(v) for v in (values[comm.rank], poison(count, "float64"), poison(count, "float64"))
    )
    for sender in range(comm.world_size):
        if comm.rank == sender:
            comm.send(x, after)
        elif before == sender:
            comm.recv(one, sender)
    comm.sendrecv(x, other, to=after, source=before)
    comm.synchronize()
    for arrived in (one, other):
        assert library.on_host(arrived).tobytes() == values[before].tobytes()
