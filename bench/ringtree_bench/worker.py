"""One rank of a rival that has processes of its own: run by path, by the Python of another environment.

It needs mpi4py and numpy and nothing of ringtree. A line of JSON on a socket says what to do, a line answers:
`allocate`, `prepare`, `load` (this rank's input follows), `run`, `fetch` (the result follows), `leave`.

Between two lines the process sleeps in a read of the socket, outside of MPI: an MPI that waits inside spins,
and would take the core from whoever is measured then.
"""

import json
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = 0  # of every rooted collective, as in the suite
HUGE_PAGE_BYTES = 2 << 20
_SETTLE_SECONDS = 50e-6  # as long as the suite waits after its own meetings

_DATATYPES = {
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "int64": "INT64_T",
    "int32": "INT32_T",
    "int8": "INT8_T",
    "uint8": "UINT8_T",
    "bool": "C_BOOL",
}
_OPS = {name: name.upper() for name in ("sum", "prod", "min", "max", "band", "bor", "bxor")}
_BOOL_OPS = dict.fromkeys(("sum", "max", "bor"), "LOR") | dict.fromkeys(("prod", "min", "band"), "LAND")
_BOOL_OPS["bxor"] = "LXOR"

Bytes = NDArray[np.uint8]
Call = Callable[[], object]


def mpi_call(
    mpi: Any, comm: Any, collective: str, dtype: str, op: str, x: Bytes, out: Bytes
) -> Callable[[], object]:
    """One call of MPI on these buffers, described once, so that it costs as little as mpi4py allows.

    Args:
        mpi: the module mpi4py.MPI.
        comm: its communicator.
        collective: the suite's name for it.
        dtype: of the elements, whose bytes `x` and `out` are.
        op: of a reduction; "none" for what is only moved.
        x: this rank's input, and its result where that replaces the input.
        out: its result elsewhere.

    Raises:
        NotImplementedError: MPI has no such collective, type or operation.
    """
    datatype = _datatype(mpi, dtype, op)
    reduction = _reduction(mpi, dtype, op)
    source, target = [x, datatype], [out, datatype]
    rank, world = comm.Get_rank(), comm.Get_size()
    match collective:
        case "all_reduce":
            return partial(comm.Allreduce, mpi.IN_PLACE, source, reduction)
        case "reduce" if rank == ROOT:
            return partial(comm.Reduce, mpi.IN_PLACE, source, reduction, ROOT)
        case "reduce":
            return partial(comm.Reduce, source, None, reduction, ROOT)
        case "broadcast":
            return partial(comm.Bcast, source, ROOT)
        case "all_gather":
            return partial(comm.Allgather, source, target)
        case "reduce_scatter":
            return partial(comm.Reduce_scatter_block, source, target, reduction)
        case "all_to_all":
            return partial(comm.Alltoall, source, target)
        case "gather":
            return partial(comm.Gather, source, target if rank == ROOT else None, ROOT)
        case "scatter":
            return partial(comm.Scatter, source if rank == ROOT else None, target, ROOT)
        case "sendrecv":
            return partial(comm.Sendrecv, source, (rank + 1) % world, 0, target, (rank - 1) % world, 0)
    raise NotImplementedError(f"MPI has no {collective}")


def _datatype(mpi: Any, dtype: str, op: str) -> Any:
    """What is only moved may travel as bytes."""
    if dtype in _DATATYPES:
        return getattr(mpi, _DATATYPES[dtype])
    if op != "none":
        raise NotImplementedError(f"MPI has no {dtype}")
    return mpi.BYTE


def _reduction(mpi: Any, dtype: str, op: str) -> Any:
    names = _BOOL_OPS if dtype == "bool" else _OPS
    if op == "none":
        return None
    if op not in names:
        raise NotImplementedError(f"MPI has no {op}")
    return getattr(mpi, names[op])


def library_version(text: str) -> str:
    """`Open MPI 5.0.8`, `MPICH 4.2.1` or the like, from what the library says of itself."""
    found = re.search(r"(Open MPI|MPICH|Intel\(R\) MPI Library|MVAPICH\S*)[^\d]*v?(\d+(?:\.\d+)*)", text)
    return f"{found[1]} {found[2]}" if found else text.splitlines()[0].strip()


def seconds_of(call: Call, times: int) -> float:
    """How long `times` calls in a row take this rank."""
    if times == 1:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    turns = range(times)
    start = time.perf_counter()
    for _ in turns:
        call()
    return time.perf_counter() - start


def pages(nbytes: int) -> Bytes:
    """Bytes that are really there, from the beginning of a huge page on.

    So the same part of everybody's buffers lies in huge pages, from which kernels copy much more quickly.
    """
    memory = np.zeros(nbytes + HUGE_PAGE_BYTES, dtype=np.uint8)
    memory.fill(1)  # touched: zeros alone would map every page to the same one
    start = -memory.ctypes.data % HUGE_PAGE_BYTES
    return memory[start : start + nbytes]


def in_order(calls: Sequence[Call]) -> Call:
    """All of `calls` as one, with nothing around a single one."""
    if len(calls) == 1:
        return calls[0]

    def one_after_the_other() -> None:
        for call in calls:
            call()

    return one_after_the_other


class Worker:
    """This rank's memory, its prepared call, and how it is timed."""

    def __init__(self, mpi: Any) -> None:
        """Join all ranks that this mpirun has started; a collective."""
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self._clock = np.zeros(1)
        self._input = self._output = self._block = pages(0)
        self._x = self._out = self._input
        self._call: Call = list
        self._spoiled = 0
        self.refusals: tuple[type[Exception], ...] = (mpi.Exception, NotImplementedError, MemoryError)
        self.version = library_version(mpi.Get_library_version().strip("\0"))
        self.rank: int = self._comm.Get_rank()
        self.world: int = self._comm.Get_size()

    def allocate(self, order: Mapping[str, Any]) -> None:
        """Room for the largest case."""
        self._input, self._output = pages(order["x"]), pages(order["out"])

    def prepare(self, order: Mapping[str, Any]) -> None:
        """Describe the calls of a case: a list of where each finds its input and its output."""
        collective, dtype, op, parts = order["collective"], order["dtype"], order["op"], order["parts"]
        self._call = in_order([
            mpi_call(self._mpi, self._comm, collective, dtype, op, self._input[a:b], self._output[c:d])
            for a, b, c, d in parts
        ])  # fmt: skip
        self._x, self._out = self._input[: parts[-1][1]], self._output[: parts[-1][3]]

    def load(self, block: Bytes, spoiled: int) -> None:
        """Repeat `block` over the input from now on, and fill the output with a byte that no input holds."""
        self._block, self._spoiled = block, spoiled
        self._refresh()

    def _refresh(self) -> None:
        size = self._block.size
        for start in range(0, self._x.size, size):
            self._x[start : start + size] = self._block[: self._x.size - start]
        self._out.fill(self._spoiled)

    def run(self, order: Mapping[str, Any]) -> float:
        """Seconds that some calls in a row take this rank; `refresh` writes both buffers before."""
        if order["refresh"]:
            self._refresh()
        self._align()
        return seconds_of(self._call, order["times"])

    def _align(self) -> None:
        """Let all ranks go on at the same instant, as the suite's `World.align` does."""
        self._clock[0] = time.perf_counter()
        self._comm.Allreduce(self._mpi.IN_PLACE, self._clock, self._mpi.MAX)
        start = float(self._clock[0]) + _SETTLE_SECONDS
        while time.perf_counter() < start:
            time.sleep(0)

    def result(self, name: str) -> Bytes:
        """The bytes of `x` or of `out`."""
        return self._x if name == "x" else self._out


def serve(worker: Worker, connection: socket.socket) -> bool:
    """Do what comes over `connection` until it ends; whether it ended with a farewell."""
    stream = connection.makefile("rwb")

    def answer(**what: Any) -> None:
        stream.write(json.dumps(what).encode() + b"\n")
        stream.flush()

    answer(version=worker.version, world=worker.world)
    while line := stream.readline():
        order = json.loads(line)
        try:
            match order["do"]:
                case "allocate":
                    worker.allocate(order)
                    answer()
                case "prepare":
                    worker.prepare(order)
                    answer()
                case "load":
                    block = np.frombuffer(stream.read(order["bytes"]), dtype=np.uint8)
                    worker.load(block, order["spoiled"])
                    answer()
                case "run":
                    answer(seconds=worker.run(order))
                case "fetch":
                    answer()
                    stream.write(worker.result(order["name"]).data)
                    stream.flush()
                case "leave":
                    return True
        except worker.refusals as error:
            answer(problem=str(error).strip() or type(error).__name__)
    return False


def main(folder: str) -> None:
    """Join MPI, then the suite, which listens in `folder`, one socket a rank."""
    from mpi4py import MPI

    worker = Worker(MPI)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{folder}/{worker.rank}")
        left_well = serve(worker, connection)
    if not left_well:
        MPI.COMM_WORLD.Abort(1)  # the suite has died: ranks in the middle of a call would wait for ever


if __name__ == "__main__":
    main(sys.argv[1])
