"""The errors of ringtree, all under RingtreeError.

They come from one list that C++, Python and the documentation expand (csrc/core/errors.def). Each message
names the rank, the call and its sequence number, and says whether the communicator is still usable; `.ranks`
holds the ranks at fault, as far as they are known.

    InvalidArgument   also a ValueError: an argument is wrong; nothing was sent, the communicator stays usable
    Mismatch          ranks made different calls; names both
    Timeout           also a TimeoutError: names the ranks that have not arrived
    RankFailure       also a ConnectionError: ranks died or left
    Aborted           a rank ended the communicator on purpose
    TransportError    also an OSError: the ranks cannot reach one another
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
