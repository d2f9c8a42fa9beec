"""What the user holds: a rank's communicator, one file a family of calls.

The files:

    caller            who calls, and how what the user passes becomes what the core takes
    reductions        all_reduce, reduce, reduce_scatter(_v)
    movement          broadcast, all_gather(_v), all_to_all(_v), gather, scatter
    point_to_point    send, recv, sendrecv
    communicator      all of them, and barrier, split, abort, close
"""

from ringtree.communicator.communicator import Communicator, in_short, open_communicator

__all__ = ["Communicator", "in_short", "open_communicator"]
