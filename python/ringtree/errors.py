"""The errors of ringtree, all under RingtreeError.

They are made from one list that C++, Python and docs/errors.md share (csrc/core/errors.def). Every message
names rank, op and sequence number and says whether the communicator is still usable; `.ranks` holds the ranks
at fault as far as they are known.
"""

from ringtree._core import (
    Aborted,
    InvalidArgument,
    Mismatch,
    RankFailure,
    RingtreeError,
    Timeout,
    TransportError,
)

__all__ = [
    "Aborted",
    "InvalidArgument",
    "Mismatch",
    "RankFailure",
    "RingtreeError",
    "Timeout",
    "TransportError",
]
