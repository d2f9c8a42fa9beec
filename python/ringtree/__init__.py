"""ringtree: collective communication for NumPy, Torch and anything with DLPack or the buffer protocol.

    import ringtree as rt

    comm = rt.init()          # started by mpirun, torchrun or Slurm; alone it is a world of one
    comm.all_reduce(x)        # in place, on every rank the same bits
    rt.run_local(4, fn)       # fn(comm) on 4 ranks as threads of this process
"""

from ringtree._core import COLLECTIVES, DTYPES, OPS, TRANSPORTS, Work, __version__, algorithms
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
from ringtree.ops import PremulSum, premul_sum
from ringtree.start import init

__all__ = [
    "COLLECTIVES",
    "DTYPES",
    "OPS",
    "TRANSPORTS",
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
    "init",
    "premul_sum",
    "run_local",
]
