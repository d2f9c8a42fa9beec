"""A communicator with the methods of cupy.cuda.nccl, by their arguments' names and order.

Each waits for its stream, moves the arrays to the host, and back what ringtree makes of them there: so numbers of
types and operations, counts, addresses and streams are those that NCCL would be given, or results are wrong.
"""

import os
import tempfile

import numpy as np
from ringtree import Communicator, _core
from ringtree.communicator.communicator import open_communicator
from ringtree.launch import timeout_of
from ringtree.rendezvous.folder import through_folder
from ringtree.tuning import Settings

_TYPES = ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
_OPS = ("sum", "prod", "max", "min", "avg")
_ID_BYTES = 128


class NcclError(RuntimeError):
    pass


def get_version() -> int:
    return int(os.environ.get("STAND_IN_NCCL", "23003"))


def get_unique_id() -> tuple[int, ...]:
    return tuple(tempfile.mkdtemp(prefix="nccl-").encode().ljust(_ID_BYTES, b"\0"))


class NcclCommunicator:
    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int) -> None:  # noqa: N803  # CuPy's name
        assert os.environ["NCCL_MULTI_RANK_GPU_ENABLE"] == "1"
        assert len(commId) == _ID_BYTES
        address = "file://" + bytes(commId).rstrip(b"\0").decode()
        patience = timeout_of(None, os.environ)
        exchange = through_folder(address, rank, ndev, patience)
        self._comm: Communicator = open_communicator("shm", rank, ndev, patience, exchange, Settings())

    def allReduce(  # noqa: N802
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        x = _read(sendbuf, count, datatype, stream)
        self._comm.all_reduce(x, _OPS[op])
        _write(recvbuf, x, stream)

    def reduce(
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, root: int, stream: int
    ) -> None:
        x = _read(sendbuf, count, datatype, stream)
        self._comm.reduce(x, root, _OPS[op])
        if self._comm.rank == root:
            _write(recvbuf, x, stream)

    def broadcast(
        self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int
    ) -> None:
        x = _read(sendbuff, count, datatype, stream)
        self._comm.broadcast(x, root)
        _write(recvbuff, x, stream)

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:  # noqa: N802
        x = _read(sendbuf, count, datatype, stream)
        out = np.empty(count * self._comm.world_size, x.dtype)
        self._comm.all_gather(out, x)
        _write(recvbuf, out, stream)

    def reduceScatter(  # noqa: N802
        self, sendbuf: int, recvbuf: int, recvcount: int, datatype: int, op: int, stream: int
    ) -> None:
        x = _read(sendbuf, recvcount * self._comm.world_size, datatype, stream)
        out = np.empty(recvcount, x.dtype)
        self._comm.reduce_scatter(out, x, _OPS[op])
        _write(recvbuf, out, stream)

    def destroy(self) -> None:
        self._comm.close()


def _read(address: int, count: int, datatype: int, stream: int) -> np.ndarray:
    host = np.empty(count, _TYPES[datatype])
    _core.gpu_copy(host.ctypes.data, address, host.nbytes, stream)
    return host


def _write(address: int, host: np.ndarray, stream: int) -> None:
    _core.gpu_copy(address, host.ctypes.data, host.nbytes, stream)
