"""ringtree without its flight recorder, to show what that costs."""

import os

from ringtree_bench.rivals.ringtree import Ringtree
from ringtree_bench.world import World

_SWITCH = "RINGTREE_RECORDER"


class Unrecorded(Ringtree):
    """A communicator of its own, opened with RINGTREE_RECORDER=off."""

    name = "unrecorded"

    @staticmethod
    def missing(world: World) -> str:
        """See `Peer.missing`."""
        return ""

    def __init__(self, world: World) -> None:
        """Join; a collective."""
        before = os.environ.get(_SWITCH)
        os.environ[_SWITCH] = "off"
        try:
            group = world.comm.split(0)
        finally:
            if before is None:
                del os.environ[_SWITCH]
            else:
                os.environ[_SWITCH] = before
        assert group is not None  # who gives a color is in a group
        super().__init__(group)

    def close(self) -> None:
        """See `Rival.close`."""
        self._comm.close()
