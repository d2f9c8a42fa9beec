"""ringtree: collective communication for NumPy, Torch and everything with a buffer.

In short:

    import ringtree as rt

    comm = rt.init()            # under torchrun, mpirun or Slurm; alone, a world of one
    comm.all_reduce(x)          # in place; every rank ends with the same bits

    rt.run_local(4, fn)         # fn(comm) on 4 ranks that are threads of this process
"""

from ringtree import cuda
from ringtree._core import Work, __version__
from ringtree.catalogue import (
    COLLECTIVES,
    DTYPES,
    OPS,
    TRANSPORTS,
    ZERO_COPY,
    PremulSum,
    algorithms,
    premul_sum,
)
from ringtree.communicator import Communicator
from ringtree.errors import (
    Aborted,
    InvalidArgument,
    Mismatch,
    RankFailure,
    RingtreeError,
    Timeout,
    TransportError,
)
from ringtree.local import run_local
from ringtree.start import init

__all__ = [
    "COLLECTIVES",
    "DTYPES",
    "OPS",
    "TRANSPORTS",
    "ZERO_COPY",
    "Aborted",
    "Communicator",
    "InvalidArgument",
    "Mismatch",
    "PremulSum",
    "RankFailure",
    "RingtreeError",
    "Timeout",
    "TransportError",
    "Work",
    "__version__",
    "algorithms",
    "cuda",
    "init",
    "premul_sum",
    "run_local",
]
